"""What a served graph must know of a file before it decodes it, read from the bytes by TensorFlow operations.

TensorFlow's decoders ignore EXIF and make something of files that Pillow reads otherwise. So the header is
walked here: JPEG segments (ITU T.81 annex B), PNG chunks (W3C PNG 3rd edition), RIFF chunks of WebP (RFC 9649),
and the first directory of the EXIF block (TIFF 6.0, CIPA DC-008).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tlkeras.images.decode import ANIMATED_WEBP, CMYK, PACKED_BMP, SHALLOW_KEYED_GREY, Limits
from tlkeras.images.orientation import EXIF_TAG

Tensor = Any


class Header(NamedTuple):
    """Three scalars: format (string), EXIF orientation (int32, 1..8), and why the file is refused (string or "")."""

    format: Tensor
    orientation: Tensor
    refusal: Tensor


def format_of(data: Tensor) -> Tensor:
    """The format that the first bytes of a scalar string tell: ``jpeg png gif bmp webp``, or ``""``."""

    def starts(magic: bytes, at: int = 0) -> Tensor:
        return tf.equal(_substr(data, at, len(magic)), magic)

    named = [
        ("jpeg", starts(b"\xff\xd8\xff")),
        ("png", starts(b"\x89PNG\r\n\x1a\n")),
        ("gif", starts(b"GIF87a") | starts(b"GIF89a")),
        ("bmp", starts(b"BM") & starts(bytes(4), 6)),
        ("webp", starts(b"RIFF") & starts(b"WEBP", 8)),
    ]
    found = tf.constant("")
    for name, matches in named:
        found = tf.where(matches, name, found)
    return found


def read_header(data: Tensor, limits: Limits = Limits()) -> Header:
    """Read the header of one image file, a scalar string tensor; never fails, whatever the bytes are."""
    kind = format_of(data)
    # The end is padded so that a field beyond a truncated header reads as zeros.
    raw = tf.concat([tf.io.decode_raw(data, tf.uint8), tf.zeros([64], tf.uint8)], axis=0)
    readers = {"": _nothing, "jpeg": _jpeg, "png": _png, "gif": _gif, "bmp": _bmp, "webp": _webp}
    index = tf.argmax(tf.equal(kind, tf.constant(list(readers))), output_type=tf.int32)
    exif_at, pixels, refusal = tf.switch_case(index, [lambda reader=reader: reader(raw) for reader in readers.values()])
    orientation = tf.cond(exif_at > 0, lambda: _exif_orientation(raw, exif_at), lambda: tf.constant(1))
    refusal = tf.where(
        pixels > float(limits.max_pixels), f"an image may have at most {limits.max_pixels:,} pixels", refusal
    )
    return Header(kind, orientation, refusal)


def _substr(data: Tensor, start: int, length: int) -> Tensor:
    """tf.strings.substr that gives "" instead of failing where the string is too short."""
    padded = tf.strings.join([tf.strings.substr(data, 0, start + length), "\0" * (start + length)])
    return tf.strings.substr(padded, start, length)


def _number(raw: Tensor, at: Tensor | int, size: int, little: Tensor | bool = False) -> Tensor:
    """An unsigned number of ``size`` bytes as int32 (clamped where it would not fit), 0 beyond the end."""
    at = tf.convert_to_tensor(at)
    end = tf.shape(raw)[0]
    at = tf.where((at < 0) | (at > end - size), end - size, at)
    digits = tf.cast(raw[at : at + size], tf.int64)
    digits = tf.where(little, tf.reverse(digits, [0]), digits)
    value = tf.reduce_sum(digits * tf.constant([256 ** (size - 1 - i) for i in range(size)], tf.int64))
    return tf.cast(tf.minimum(value, 2**31 - 1), tf.int32)


def _area(width: Tensor, height: Tensor) -> Tensor:
    return tf.cast(width, tf.float32) * tf.cast(height, tf.float32)


_NONE = "not a JPEG, PNG, GIF, BMP or WebP image"
_Read = tuple[Tensor, Tensor, Tensor]  # where the EXIF block's TIFF header begins (0: none), pixels, refusal


def _nothing(raw: Tensor) -> _Read:
    del raw
    return tf.constant(0), tf.constant(0.0), tf.constant(_NONE)


def _jpeg(raw: Tensor) -> _Read:
    end = tf.shape(raw)[0] - 64

    def more(at: Tensor, *_: Tensor) -> Tensor:
        # Up to the entropy-coded data (SOS) or the end mark, as long as every segment begins with 0xFF.
        marker = _number(raw, at + 1, 1)
        return (at + 4 <= end) & tf.equal(_number(raw, at, 1), 0xFF) & (marker != 0xDA) & (marker != 0xD9)

    def step(at: Tensor, exif_at: Tensor, pixels: Tensor, components: Tensor) -> tuple[Tensor, ...]:
        marker, length = _number(raw, at + 1, 1), _number(raw, at + 2, 2)
        # Start of frame: 0xC0..0xCF but for the Huffman (C4), extension (C8) and arithmetic (CC) tables.
        frame = (marker >= 0xC0) & (marker <= 0xCF) & (marker != 0xC4) & (marker != 0xC8) & (marker != 0xCC)
        height, width = _number(raw, at + 5, 2), _number(raw, at + 7, 2)
        pixels = tf.where(frame, _area(width, height), pixels)
        components = tf.where(frame, _number(raw, at + 9, 1), components)
        # "Exif\0\0" in an APP1 segment; the first such block counts.
        exif = tf.equal(marker, 0xE1) & tf.equal(_number(raw, at + 4, 4), 0x45786966) & tf.equal(exif_at, 0)
        exif_at = tf.where(exif, at + 10, exif_at)
        fill = tf.equal(marker, 0xFF)
        return at + tf.where(fill, 1, 2 + length), exif_at, pixels, components

    start = (tf.constant(2), tf.constant(0), tf.constant(0.0), tf.constant(3))
    _, exif_at, pixels, components = tf.while_loop(more, step, start)
    return (
        exif_at,
        pixels,
        tf.where(tf.equal(components, 4), CMYK, ""),
    )


def _png(raw: Tensor) -> _Read:
    end = tf.shape(raw)[0] - 64

    def more(at: Tensor, *_: Tensor) -> Tensor:
        return (at + 12 <= end) & (at > 0)

    def step(at: Tensor, exif_at: Tensor, keyed: Tensor) -> tuple[Tensor, ...]:
        length, kind = _number(raw, at, 4), _number(raw, at + 4, 4)
        exif_at = tf.where(tf.equal(kind, 0x65584966) & tf.equal(exif_at, 0), at + 8, exif_at)  # "eXIf"
        keyed |= tf.equal(kind, 0x74524E53)  # "tRNS"
        # A length that runs past the file would overflow; it ends the walk.
        return tf.where(length > end, -1, at + 12 + tf.minimum(length, end)), exif_at, keyed

    _, exif_at, keyed = tf.while_loop(more, step, (tf.constant(8), tf.constant(0), tf.constant(False)))
    shallow_grey = (_number(raw, 24, 1) < 8) & tf.equal(_number(raw, 25, 1), 0)
    refusal = tf.where(shallow_grey & keyed, SHALLOW_KEYED_GREY, "")
    return exif_at, _area(_number(raw, 16, 4), _number(raw, 20, 4)), refusal


def _gif(raw: Tensor) -> _Read:
    return tf.constant(0), _area(_number(raw, 6, 2, True), _number(raw, 8, 2, True)), tf.constant("")


def _bmp(raw: Tensor) -> _Read:
    bits, compression = _number(raw, 28, 2, True), _number(raw, 30, 4, True)
    plain = (tf.equal(bits, 24) | tf.equal(bits, 32)) & tf.equal(compression, 0) & (_number(raw, 14, 4, True) >= 40)
    refusal = tf.where(plain, "", PACKED_BMP)
    return tf.constant(0), _area(_number(raw, 18, 4, True), _number(raw, 22, 4, True)), refusal


def _webp(raw: Tensor) -> _Read:
    end = tf.shape(raw)[0] - 64
    first = _number(raw, 12, 4)
    extended = tf.equal(first, 0x56503858)  # "VP8X": the only layout that can hold EXIF

    def more(at: Tensor, exif_at: Tensor) -> Tensor:
        return (at + 8 <= end) & (at > 0) & tf.equal(exif_at, 0)

    def step(at: Tensor, exif_at: Tensor) -> tuple[Tensor, Tensor]:
        length = _number(raw, at + 4, 4, True)
        exif_at = tf.where(tf.equal(_number(raw, at, 4), 0x45584946), at + 8, exif_at)  # "EXIF"
        # Chunks are padded to an even length.
        step_over = 8 + tf.minimum(length, end) + tf.math.floormod(length, 2)
        return tf.where(length > end, -1, at + step_over), exif_at

    walk_from = tf.where(extended, 12, -1)
    _, exif_at = tf.while_loop(more, step, (walk_from, tf.constant(0)))
    # Writers differ in whether the block begins with JPEG's "Exif\0\0".
    exif_at += tf.where((exif_at > 0) & tf.equal(_number(raw, exif_at, 4), 0x45786966), 6, 0)
    canvas = _area(_number(raw, 24, 3, True) + 1, _number(raw, 27, 3, True) + 1)
    packed = _number(raw, 21, 4, True)
    lossless = _area(tf.bitwise.bitwise_and(packed, 0x3FFF) + 1, tf.bitwise.bitwise_and(packed // 2**14, 0x3FFF) + 1)
    sides = [tf.bitwise.bitwise_and(_number(raw, at, 2, True), 0x3FFF) for at in (26, 28)]
    pixels = tf.where(extended, canvas, tf.where(tf.equal(first, 0x5650384C), lossless, _area(*sides)))
    # TensorFlow 2.21's decoder aborts the whole process on some animations.
    animated = extended & (tf.bitwise.bitwise_and(_number(raw, 20, 1), 0x02) > 0)
    return exif_at, pixels, tf.where(animated, ANIMATED_WEBP, "")


def _exif_orientation(raw: Tensor, at: Tensor) -> Tensor:
    little = tf.equal(_number(raw, at, 2), 0x4949)
    known = (little | tf.equal(_number(raw, at, 2), 0x4D4D)) & tf.equal(_number(raw, at + 2, 2, little), 42)
    end = tf.shape(raw)[0]
    offset = _number(raw, at + 4, 4, little)
    directory = at + tf.minimum(offset, end - at)
    count = tf.where(known & (offset >= 8), _number(raw, directory, 2, little), 0)

    def more(entry: Tensor, found: Tensor) -> Tensor:
        return (entry < count) & (directory + 2 + 12 * entry + 12 <= end) & tf.equal(found, 0)

    def step(entry: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        field = directory + 2 + 12 * entry
        kind = _number(raw, field + 2, 2, little)
        value = tf.where(
            tf.equal(kind, 3),
            _number(raw, field + 8, 2, little),
            tf.where(tf.equal(kind, 4), _number(raw, field + 8, 4, little), 0),
        )
        return entry + 1, tf.where(tf.equal(_number(raw, field, 2, little), EXIF_TAG), value, found)

    _, found = tf.while_loop(more, step, (tf.constant(0), tf.constant(0)))
    return tf.where((found >= 1) & (found <= 8), found, 1)
