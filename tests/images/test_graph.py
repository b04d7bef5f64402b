"""The decoder in TensorFlow's graph gives Python's pixels, or refuses by name."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.pictures import encode, photo, with_orientation
from tlkeras.images import graph
from tlkeras.images.decode import decode
from tlkeras.images.header import read_header


@pytest.fixture(scope="module")
def decode_in_graph():
    return tf.function(lambda data: graph.decode(data), input_signature=[tf.TensorSpec([], tf.string)])


@pytest.fixture(scope="module")
def header_in_graph():
    return tf.function(lambda data: read_header(data), input_signature=[tf.TensorSpec([], tf.string)])


def strange_files():
    rgb = photo(61, 43)
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(np.linspace(0, 255, 61 * 43).reshape(43, 61).astype(np.uint8)))
    palette = rgb.quantize(32)
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (9, 14), dtype=np.uint16))
    frames = {"save_all": True, "append_images": [rgb.rotate(30)]}
    yield "jpeg", encode(rgb, "JPEG")
    yield "jpeg 4:4:4", encode(rgb, "JPEG", subsampling=0)
    yield "jpeg progressive", encode(rgb, "JPEG", progressive=True)
    yield "jpeg grey", encode(rgb.convert("L"), "JPEG")
    yield "jpeg cmyk", encode(rgb.convert("CMYK"), "JPEG")
    yield "jpeg with damaged exif", encode(rgb, "JPEG", exif=b"Exif\0\0MM\0*\x7f\xff\xff\xff")
    yield "png", encode(rgb, "PNG")
    yield "png alpha", encode(rgba, "PNG")
    yield "png grey and alpha", encode(rgba.convert("LA"), "PNG")
    yield "png palette", encode(palette, "PNG")
    yield "png palette transparent", encode(palette, "PNG", transparency=3)
    yield "png palette alpha", encode(palette, "PNG", transparency=bytes(range(0, 256, 8)))
    yield "png colour key", encode(rgb, "PNG", transparency=rgb.getpixel((3, 3)))
    yield "png one bit", encode(rgb.convert("1"), "PNG")
    yield "png one bit with a transparent shade", encode(rgb.convert("1"), "PNG", transparency=0)
    yield "png 16 bit", encode(deep, "PNG")
    damaged = bytearray(encode(rgb, "PNG"))
    damaged[-14] ^= 0xFF  # the last byte of the pixels' checksum is 13 from the end
    yield "png with a wrong checksum", bytes(damaged)
    yield "apng", encode(rgb, "PNG", **frames)
    yield "gif", encode(rgb, "GIF")
    yield "gif animated", encode(rgb, "GIF", **frames)
    yield "gif transparent", encode(palette, "GIF", transparency=3)
    yield "bmp", encode(rgb, "BMP")
    yield "bmp 32", encode(rgba, "BMP")
    yield "bmp palette", encode(palette, "BMP")
    yield "bmp one bit", encode(rgb.convert("1"), "BMP")
    yield "webp", encode(rgb, "WEBP")
    yield "webp lossless", encode(rgb, "WEBP", lossless=True)
    yield "webp alpha", encode(rgba, "WEBP", lossless=True)
    yield "webp animated", encode(rgb, "WEBP", **frames)
    yield "tiff", encode(rgb, "TIFF")
    for kind in ("JPEG", "PNG", "WEBP"):
        for orientation in range(1, 9):
            yield f"{kind} orientation {orientation}", with_orientation(rgb, kind, orientation)


@pytest.mark.parametrize(("name", "data"), [pytest.param(*case, id=case[0]) for case in strange_files()])
def test_same_pixels_as_python_or_refused_as_the_audit_says(name, data, decode_in_graph):
    image = decode(data)
    if image.unserved:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"served graph|not a JPEG|Invalid PNG"):
            decode_in_graph(data)
    else:
        np.testing.assert_array_equal(decode_in_graph(data).numpy(), image.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_audited_file_needs_no_second_look_at_its_header(orientation):
    data = with_orientation(photo(50, 31), "JPEG", orientation)
    pixels = graph.decode(tf.constant(data), tf.constant(orientation)).numpy()
    np.testing.assert_array_equal(pixels, decode(data).pixels)


def test_bombs_are_refused_before_they_are_decoded(header_in_graph):
    for kind in ("PNG", "GIF", "BMP", "WEBP"):
        data = bytearray(encode(photo(20, 20), kind, **({"lossless": False} if kind == "WEBP" else {})))
        if kind == "WEBP":
            data[26:30] = b"\xff\x3f\xff\x3f"
        else:
            at, size, order = {"PNG": (16, 4, "big"), "GIF": (6, 2, "little"), "BMP": (18, 4, "little")}[kind]
            for side in range(2):
                data[at + side * size : at + (side + 1) * size] = (60_000).to_bytes(size, order)
        assert b"at most" in header_in_graph(bytes(data)).refusal.numpy(), kind
    jpeg = encode(photo(20, 20), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    assert b"at most" in header_in_graph(jpeg[:at] + b"\xf0\x00\xf0\x00" + jpeg[at + 4 :]).refusal.numpy()


def test_any_bytes_give_a_header_and_never_an_exception(header_in_graph):
    random = np.random.default_rng(0)
    seeds = [with_orientation(photo(20, 20), kind, 6) for kind in ("JPEG", "PNG", "WEBP")]
    seeds += [encode(photo(20, 20), "GIF"), encode(photo(20, 20), "BMP"), b"", b"\xff", b"text"]
    for seed in seeds:
        for _ in range(40):
            data = bytearray(seed[: random.integers(0, len(seed) + 1)])
            for at in random.integers(0, max(len(data), 1), 6):
                if at < len(data):
                    data[at] = random.integers(0, 256)
            header = header_in_graph(bytes(data))
            assert 1 <= int(header.orientation) <= 8


def test_what_is_not_an_image_fails_in_words(decode_in_graph):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a JPEG, PNG, GIF, BMP or WebP image"):
        decode_in_graph(b"just text")
    assert Image.open(io.BytesIO(encode(photo(8, 8), "JPEG"))).size == (8, 8)
