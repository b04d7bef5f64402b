"""The decoder in TensorFlow's graph gives Python's pixels, or refuses by name."""

import io
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.images import fuzz
from tests.pictures import encode, photo, with_orientation
from tests.zoo import chunk, contents, png
from tlkeras.errors import ImageError
from tlkeras.images import graph, header
from tlkeras.images.decode import decode
from tlkeras.images.header import REFUSALS, TOO_LARGE
from tlkeras.images.parts import Bytes


@pytest.fixture(scope="module")
def decode_in_graph():
    return tf.function(lambda data: graph.decode(data), input_signature=[tf.TensorSpec([], tf.string)])


@pytest.fixture(scope="module")
def header_in_graph():
    return tf.function(lambda data: graph.read_header(data), input_signature=[tf.TensorSpec([], tf.string)])


REFUSED = {
    "jpeg cmyk": "CMYK",
    "png one bit with a transparent shade": "transparent shade",
    "png with a wrong checksum": "Invalid PNG",
    "bmp palette": "24-bit and 32-bit",
    "bmp one bit": "24-bit and 32-bit",
    "webp animated": "animated",
    "tiff": "not a JPEG, PNG, GIF, BMP or WebP image",
}


def strange_files():
    """Name → file; those that are not in REFUSED must be decoded by the graph."""
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
    for colours in (2, 4, 16):
        yield f"png palette of {colours}", encode(rgb.quantize(colours), "PNG")
        yield f"png palette of {colours} transparent", encode(rgb.quantize(colours), "PNG", transparency=1)
    yield "png palette transparent", encode(palette, "PNG", transparency=3)
    yield "png palette alpha", encode(palette, "PNG", transparency=bytes(range(0, 256, 8)))
    yield "png colour key", encode(rgb, "PNG", transparency=rgb.getpixel((3, 3)))
    yield "png one bit", encode(rgb.convert("1"), "PNG")
    yield "png one bit with a transparent shade", encode(rgb.convert("1"), "PNG", transparency=0)
    yield "png 16 bit", encode(deep, "PNG")
    yield "png taller than a block of rows", encode(rgba.resize((3000, 800)), "PNG")
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


SERVED = [pytest.param(data, id=name) for name, data in strange_files() if name not in REFUSED]


@pytest.mark.parametrize("data", SERVED)
def test_same_pixels_as_python(data, decode_in_graph):
    image = decode(data)
    assert not image.unserved
    np.testing.assert_array_equal(decode_in_graph(data).numpy(), image.pixels)


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_audit_calls_unserved_is_refused(name, decode_in_graph):
    data = dict(strange_files())[name]
    assert decode(data).unserved
    with pytest.raises(tf.errors.InvalidArgumentError, match=REFUSED[name]):
        decode_in_graph(data)


ZOO = contents()


@pytest.mark.parametrize("name", sorted(ZOO))
def test_the_audit_says_of_serving_what_the_graph_does(name, decode_in_graph):
    differs = compare(ZOO[name][0], decode_in_graph)
    assert differs in ("", GRAPH_ALONE), differs


@pytest.mark.parametrize("start", range(0, 100, 20))
def test_no_file_is_seen_differently_unmarked(start, decode_in_graph, header_in_graph):
    check_files(20, 20_001 + start, decode_in_graph, header_in_graph)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(31_001, 31_009))
def test_no_file_of_many_is_seen_differently_unmarked(seed, decode_in_graph, header_in_graph):
    check_files(150, seed, decode_in_graph, header_in_graph)


GRAPH_ALONE = "the graph alone answers"


def check_files(count, seed, decode_in_graph, header_in_graph):
    for name, data in fuzz.files(seed, count):
        ours, theirs = header.read_header(Bytes(data)), header_in_graph(data)
        assert ours == type(ours)(*(int(number) for number in theirs)), name
        differs = compare(data, decode_in_graph)
        # Decoders in a graph go on behind packed pixels that cannot be; Pillow refuses the file.
        assert not differs or (differs == GRAPH_ALONE and (" GIF " in name or " WEBP " in name)), (name, differs)


def compare(data, decode_in_graph):
    """What is wrong about what Python and the graph make of a file, in words."""
    try:
        image = decode(data)
    except ImageError:
        image = None
    try:
        pixels = decode_in_graph(data).numpy()
    except tf.errors.InvalidArgumentError as error:
        return "the graph refuses, unmarked: " + error.message if image is not None and not image.unserved else ""
    if image is None:
        return GRAPH_ALONE
    if image.unserved:
        return f"served though marked: {image.unserved}"
    return "" if np.array_equal(pixels, image.pixels) else "other pixels"


# What made a server busy for half a minute, and what is refused in its place.
LONG = {
    "fill bytes": lambda jpeg, png, gif: jpeg[:2] + b"\xff" * 101_000 + jpeg[2:],
    "comments": lambda jpeg, png, gif: jpeg[:2] + b"\xff\xfe\0\2" * 300_000 + jpeg[2:],
    "empty chunks": lambda jpeg, png, gif: png[:33] + chunk(b"teXt", b"") * 100_000 + png[33:],
    "sub-blocks": lambda jpeg, png, gif: gif[:-1].replace(
        b"\x2c\0\0\0\0", b"\x21\xfe" + b"\1a" * 100_000 + b"\0\x2c\0\0\0\0", 1
    ),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_walk_through_a_header_is_bounded(kind, header_in_graph):
    data = LONG[kind](encode(photo(9, 9), "JPEG"), encode(photo(9, 9), "PNG"), encode(photo(9, 9), "GIF"))
    started = time.monotonic()
    assert REFUSALS[int(header_in_graph(data).refusal)].startswith("the file has more parts")
    assert time.monotonic() - started < 6  # 0.1 to 1 s on a quiet machine; without a bound up to 30
    assert "more parts" in decode(data).unserved


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_audited_file_needs_no_second_look_at_its_header(orientation):
    data = with_orientation(photo(50, 31), "JPEG", orientation)
    pixels = graph.decode(tf.constant(data), tf.constant(orientation)).numpy()
    np.testing.assert_array_equal(pixels, decode(data).pixels)


def test_bombs_are_refused_before_they_are_decoded(header_in_graph):
    for kind in ("PNG", "GIF", "BMP", "WEBP", "JPEG"):
        data = bytearray(encode(photo(20, 20), kind))
        if kind == "WEBP":
            data[26:30] = b"\xff\x3f\xff\x3f"
        elif kind == "JPEG":
            at = data.index(b"\xff\xc0") + 5
            data[at : at + 4] = b"\xf0\x00\xf0\x00"
        else:
            at, size, order = {"PNG": (16, 4, "big"), "GIF": (6, 2, "little"), "BMP": (18, 4, "little")}[kind]
            for side in range(2):
                data[at + side * size : at + (side + 1) * size] = (60_000).to_bytes(size, order)
        assert "at most" in REFUSALS[int(header_in_graph(bytes(data)).refusal)], kind


def test_memory_is_a_limit_of_its_own(header_in_graph):
    # 106 million pixels are allowed, but not with a channel of transparency, which takes half as much again.
    for colour, refused in ((2, False), (6, True)):
        found = header_in_graph(png(10_300, 10_300, 8, colour, b""))
        assert (int(found.refusal) == TOO_LARGE) == refused


def test_a_batch_is_decoded_as_each_of_its_files(decode_in_graph):
    files = [data for name, data in strange_files() if name not in REFUSED]
    fitted = tf.function(
        lambda batch: graph.fitted_batch(batch, 32, "crop"), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    expected = [graph.fit_to_square(decode_in_graph(data), 32, "crop").numpy() for data in files]
    np.testing.assert_array_equal(fitted(tf.constant(files)).numpy(), np.stack(expected))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a JPEG"):
        fitted(tf.constant([*files, b"text"]))


def test_any_bytes_give_a_header_and_never_an_exception(header_in_graph):
    random = np.random.default_rng(0)
    seeds = [with_orientation(photo(20, 20), kind, 6) for kind in ("JPEG", "PNG", "WEBP")]
    seeds += [encode(photo(20, 20), "GIF"), encode(photo(20, 20), "BMP"), b"", b"\xff", b"text"]
    for seed in seeds:
        for _ in range(20):
            data = bytearray(seed[: random.integers(0, len(seed) + 1)])
            for at in random.integers(0, max(len(data), 1), 6):
                if at < len(data):
                    data[at] = random.integers(0, 256)
            found = header_in_graph(bytes(data))
            assert 1 <= int(found.orientation) <= 8
            assert header.read_header(Bytes(bytes(data))) == type(found)(*(int(number) for number in found))


def test_what_is_not_an_image_fails_in_words(decode_in_graph):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a JPEG, PNG, GIF, BMP or WebP image"):
        decode_in_graph(b"just text")
    assert Image.open(io.BytesIO(encode(photo(8, 8), "JPEG"))).size == (8, 8)
