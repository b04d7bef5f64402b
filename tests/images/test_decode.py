"""The decoder in Python: types by content, repairs, limits, and Pillow as the oracle for orientation."""

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.pictures import encode, photo, with_orientation
from tlkeras.errors import ImageError
from tlkeras.images.decode import Limits, decode, read_bytes, sniff


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_undone_as_pillow_does(kind, orientation):
    data = with_orientation(photo(60, 41), kind, orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    image = decode(data)
    np.testing.assert_array_equal(image.pixels, expected)
    assert (image.height, image.width) == expected.shape[:2]
    if kind != "TIFF":  # Pillow turns TIFF by itself while loading
        assert image.orientation == orientation
        assert bool(image.repairs) == (orientation != 1)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_impossible_orientation_means_upright(orientation):
    picture = photo(20, 30)
    data = with_orientation(picture, "PNG", orientation)
    np.testing.assert_array_equal(decode(data).pixels, np.asarray(picture))


def test_alpha_is_laid_over_white_and_16_bits_keep_the_high_byte():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[0, 1] = (10, 20, 30, 0)
    rgba[1, 0] = (100, 0, 255, 128)
    image = decode(encode(Image.fromarray(rgba), "PNG"))
    assert image.pixels[0, 0].tolist() == [10, 20, 30]
    assert image.pixels[0, 1].tolist() == [255, 255, 255]
    assert image.pixels[1, 0].tolist() == [177, 127, 255]
    assert image.repairs == ("transparent areas made white",)

    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    image = decode(encode(Image.fromarray(deep), "PNG"))
    assert image.pixels[0, :, 0].tolist() == [0, 0, 1, 255]
    assert image.repairs == ("16 bits a sample cut to 8",)


def test_cmyk_is_decoded_here_and_refused_in_a_served_graph():
    image = decode(encode(photo(32, 32).convert("CMYK"), "JPEG"))
    assert image.repairs == ("CMYK converted to RGB",)
    assert "CMYK" in image.unserved


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is a text named photo.jpg", "not_an_image"),
        (b"BM is how this text begins, and it is long enough", "not_an_image"),
        (b"\0\0\0\x18ftypheic" + bytes(32), "unsupported"),
        (encode(photo(64, 64), "JPEG")[:500], "truncated"),
        (encode(photo(64, 64), "PNG")[:500], "truncated"),
        (encode(photo(64, 64), "WEBP")[:300], "truncated"),
        (b"\xff\xd8\xff", "truncated"),
        (encode(photo(64, 64), "PNG").replace(b"IDAT", b"IDXT"), "unreadable"),
        (encode(Image.fromarray(np.ones((4, 4), np.float32) * 7), "TIFF"), "unsupported"),
    ],
)
def test_what_cannot_be_decoded_gives_its_reason(data, reason):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_limits_hold_before_pixels_are_decoded(tmp_path):
    bomb = encode(Image.new("1", (9000, 9000)), "PNG")
    assert len(bomb) < 20_000
    with pytest.raises(ImageError, match="at most 1,000,000 pixels; received 81,000,000 pixels"):
        decode(bomb, Limits(max_pixels=1_000_000))
    path = tmp_path / "large.png"
    path.write_bytes(bomb)
    with pytest.raises(ImageError, match="at most 100 bytes"):
        read_bytes(path, Limits(max_bytes=100))
    with pytest.raises(ImageError, match="at most 100 bytes"):
        decode(bomb, Limits(max_bytes=100))


@pytest.mark.parametrize("name", ["pipe.jpg", "/dev/zero", "/dev/null"])
def test_what_has_no_end_is_not_read(name, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="no regular file"):
        read_bytes(tmp_path / name)


def test_a_file_that_is_not_there_and_a_folder(tmp_path):
    with pytest.raises(ImageError) as caught:
        read_bytes(tmp_path / "absent.jpg")
    assert caught.value.reason == "missing"
    with pytest.raises(ImageError, match="no file has such a name"):
        read_bytes(tmp_path / "a\0b")
    with pytest.raises(ImageError) as caught:
        read_bytes(tmp_path)
    assert caught.value.reason == "unreadable"


def test_damaged_exif_does_not_cost_the_photo():
    picture = photo(24, 24)
    data = encode(picture, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    assert decode(data).orientation == 1


def test_at_least_px_checks_all_data_and_keeps_the_size():
    data = encode(photo(800, 600), "JPEG")
    image = decode(data, at_least_px=32)
    assert (image.width, image.height) == (800, 600)
    assert image.pixels.shape[0] < 600
    assert min(image.pixels.shape[:2]) >= 32
    with pytest.raises(ImageError, match="ends before"):
        decode(data[: len(data) * 9 // 10], at_least_px=32)


def test_sniff_goes_by_content():
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        assert sniff(encode(photo(8, 8), kind)) == kind.lower()
    assert sniff(b"<svg></svg>") is None


def _pillow(kind):
    buffer = io.BytesIO()
    photo(16, 16).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (_pillow("PPM"), "PPM"),
        (_pillow("JPEG2000"), "JPEG 2000"),
        (_pillow("ICO"), "ICO"),
        (_pillow("TGA"), "Targa"),
        (b"\xff\x0a" + bytes(20), "JPEG XL"),
        (b"8BPS\0\1" + bytes(20), "Photoshop"),
        (b"%PDF-1.7\n", "PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"></svg>', "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    ],
)
def test_formats_that_are_not_read_are_named_with_the_next_step(data, name):
    with pytest.raises(ImageError, match=rf"^{name}.* files are not read.*Convert the file") as caught:
        decode(data)
    assert caught.value.reason == "unsupported"
