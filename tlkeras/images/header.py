"""The one reading of a file's header: which format it is, how it lies, what it costs, and why no graph serves it.

It is written once, in arithmetic that Python's integers and TensorFlow's int64 tensors share, over a reader of bytes
(``parts.Bytes``, and ``graph.GraphBytes`` of tensors): what Python says of a file is what a served graph finds in it.
Walked are JPEG segments (ITU T.81 annex B), PNG chunks (W3C PNG 3rd edition), the blocks of a GIF's first picture
(GIF89a), RIFF chunks of WebP (RFC 9649) and the first directory of an EXIF block (TIFF 6.0, CIPA DC-008), each in a
bounded number of steps. Where TensorFlow's decoders and Pillow make different pixels of a file that is not as its
format asks, the header is refused: Python may answer and says that no graph does.

Orientation is EXIF's alone, as in browsers: the first tag in the first directory of the first block. XMP is not read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# What a graph in TF Serving can decode; the rest goes through Pillow in Python and is refused there.
SERVED_FORMATS = ("jpeg", "png", "gif", "bmp", "webp")
# An image larger than this is refused wherever it would be decoded, and so is one that needs more bytes on the way.
MOST_PIXELS = 120_000_000
MOST_MEMORY = 2**30
# A file of the largest size has fewer parts, written by any common encoder (PNG: chunks of 8 KB; JPEG: 64 KB).
MOST_SEGMENTS = 2_000
MOST_CHUNKS = 17_000
MOST_TAGS = 500

EXIF_TAG = 0x0112

# Why a graph refuses a file; a header holds the place of its reason in REFUSALS.
_OK, _NONE, _LARGE, _JPEG, _CMYK, _PNG, _KEYED, _GIF, _BMP, _WEBP, _ANIMATED, _PARTS = range(12)
REFUSALS = (
    "",
    "not a JPEG, PNG, GIF, BMP or WebP image",
    f"an image may have at most {MOST_PIXELS:,} pixels and need at most {MOST_MEMORY // 2**20:,} MiB to be decoded",
    "only whole baseline and progressive JPEG of 8 bits can be decoded inside a served graph",
    "CMYK JPEG is refused inside a served graph",
    "a PNG whose chunks are not as the format asks is refused inside a served graph",
    "a PNG of 16 bits or of grey below 8 bits with a transparent shade is refused inside a served graph",
    "a GIF whose first picture does not fill its screen is refused inside a served graph",
    "only whole uncompressed 24-bit and 32-bit BMP can be decoded inside a served graph",
    "a WebP whose chunks are not as the format asks is refused inside a served graph",
    "animated WebP is refused inside a served graph",
    "the file has more parts than are walked through inside a served graph",
)
TOO_LARGE = _LARGE
_FAR = 2**24

Number = Any  # an int, or an int64 scalar tensor; a condition is a bool, or a bool tensor


class Header(NamedTuple):
    """Whole numbers (int, or int64 scalar tensors).

    kind: place in ``SERVED_FORMATS``, -1 for none of them. orientation: EXIF, 1..8. refusal: place in ``REFUSALS``,
    0 when a graph decodes it. pixels: width times height. memory: bytes that decoding it may take, in Python or in a
    graph, the pixels' own included. end: where the file can be cut with nothing lost of its first picture.
    colours: of the table of a GIF's first picture; in a PNG, 1 where some pixels may be transparent.
    """

    kind: Number
    orientation: Number
    refusal: Number
    pixels: Number
    memory: Number
    end: Number
    colours: Number


def kind_of(file: Any) -> Number:
    """The format that the first bytes tell: a place in ``SERVED_FORMATS``, or -1."""
    number, where = file.number, file.where
    first, fourth, eighth = number(0, 4), number(4, 4), number(8, 4)
    kind = where(first // 256 == 0xFFD8FF, 0, -1)
    kind = where((first == 0x89504E47) & (fourth == 0x0D0A1A0A), 1, kind)
    kind = where((first == 0x47494638) & ((fourth // 65536 == 0x3761) | (fourth // 65536 == 0x3961)), 2, kind)
    # The reserved words of a BITMAPFILEHEADER tell a bitmap from a text that starts with "BM".
    kind = where((first // 65536 == 0x424D) & (number(6, 4) == 0), 3, kind)
    return where((first == 0x52494646) & (eighth == 0x57454250), 4, kind)


def read_header(file: Any) -> Header:
    """Read the header of one image file. ``file``: ``Bytes`` or its twin of tensors. Never fails, whatever they are."""
    where, kind = file.where, kind_of(file)
    found = file.choose(kind + 1, [lambda read=read: read(file) for read in (_nothing, *READERS.values())])
    exif_at, pixels, per_pixel, refusal, end, colours = found
    (orientation,) = file.choose(
        where(exif_at > 0, 1, 0), [lambda: _constant(file, 1), lambda: (exif_orientation(file, exif_at),)]
    )
    memory = pixels * per_pixel
    refusal = where((pixels > MOST_PIXELS) | (memory > MOST_MEMORY), _LARGE, refusal)
    return Header(kind, orientation, refusal, pixels, memory, end, colours)


def exif_orientation(file: Any, at: Number) -> Number:
    """The orientation (1..8) that a TIFF header at a place of a file leads to; 1 where there is none."""
    number, where = file.number, file.where
    little = number(at, 2) == 0x4949
    known = (little | (number(at, 2) == 0x4D4D)) & (number(at + 2, 2, little) == 42)
    offset = number(at + 4, 4, little)
    directory = at + offset
    count = where(known & (offset >= 8), number(directory, 2, little), 0)

    def more(entry: Number, found: Number) -> Number:
        return (entry < count) & (found < 0) & (directory + 14 + 12 * entry <= file.size)

    def step(entry: Number, found: Number) -> tuple[Number, ...]:
        field = directory + 2 + 12 * entry
        # SHORT, once: what the standard asks for. Anything else is not believed, as in browsers.
        plain = (number(field + 2, 2, little) == 3) & (number(field + 4, 4, little) == 1)
        value = where(plain, number(field + 8, 2, little), 1)
        return entry + 1, where(number(field, 2, little) == EXIF_TAG, value, found)

    _, found = file.walk(more, step, _constant(file, 0, -1), MOST_TAGS)
    return where((found >= 1) & (found <= 8), found, 1)


def _side(file: Any, at: int) -> Number:
    """A side of an image, of four bytes: no more than that its square still fits a tensor's number."""
    side = file.number(at, 4)
    return file.where(side > _FAR, _FAR, side)


def _constant(file: Any, *values: int) -> tuple[Number, ...]:
    return tuple(file.where(True, value, 0) for value in values)


# Each reader gives: where the EXIF block's TIFF header begins (0: none), pixels, bytes that decoding takes for each of
# them (as measured), the refusal, where the file can be cut, and what it tells of colours.


def _nothing(file: Any) -> tuple[Number, ...]:
    return (*_constant(file, 0, 0, 0, _NONE), file.size, *_constant(file, 0))


def _jpeg(file: Any) -> tuple[Number, ...]:
    number, where = file.number, file.where

    def marker(at: Number) -> Number:
        return number(at, 2)

    def more(at: Number, *_: Number) -> Number:
        # Up to the entropy-coded data (SOS), the end mark, or what is no segment with a length.
        found = marker(at)
        segment = (found >= 0xFFC0) & ((found < 0xFFD0) | (found > 0xFFDA))
        return segment & (at + 4 <= file.size) & ((found == 0xFFFF) | (number(at + 2, 2) >= 2))

    def step(at: Number, exif_at: Number, frame_at: Number, frames: Number) -> tuple[Number, ...]:
        found = marker(at)
        # Start of frame: 0xC0..0xCF but for the Huffman (C4), extension (C8) and arithmetic (CC) tables.
        frame = (found <= 0xFFCF) & (found != 0xFFC4) & (found != 0xFFC8) & (found != 0xFFCC)
        exif = (found == 0xFFE1) & (number(at + 4, 4) == 0x45786966) & (number(at + 8, 2) == 0) & (exif_at == 0)
        return (
            # A second 0xFF fills up.
            at + where(found == 0xFFFF, 1, 2 + number(at + 2, 2)),
            where(exif, at + 10, exif_at),
            where(frame, at, frame_at),
            frames + where(frame, 1, 0),
        )

    at, exif_at, frame_at, frames = file.walk(more, step, _constant(file, 2, 0, 0, 0), MOST_SEGMENTS)
    kind, components = marker(frame_at), number(frame_at + 9, 1)
    whole = (marker(at) == 0xFFDA) & (frames == 1) & (number(frame_at + 4, 1) == 8)
    plain = whole & (kind <= 0xFFC2) & ((components == 1) | (components == 3))
    refusal = where(plain, _OK, where(whole & (components == 4), _CMYK, _JPEG))
    refusal = where(more(at), _PARTS, refusal)
    # A progressive file's coefficients are all held: two bytes each.
    per_pixel = 8 + where(kind == 0xFFC2, 2 * components, 0)
    pixels = where(frames > 0, number(frame_at + 5, 2) * number(frame_at + 7, 2), 0)
    return exif_at, pixels, per_pixel, refusal, file.size, *_constant(file, 0)


def _png(file: Any) -> tuple[Number, ...]:
    number, where = file.number, file.where
    width, height, depth, colour = _side(file, 16), _side(file, 20), number(24, 1), number(25, 1)
    palette = colour == 3

    def more(at: Number, length: Number, name: Number, *_: Number) -> Number:
        # A chunk that the file does not hold to its end stops the walk, as the end chunk does.
        return (name != 0x49454E44) & (at + 12 + length <= file.size)

    # past: 0 before the pixels' chunks (IDAT), 1 among them, 2 after them. colours: the length of PLTE, key_at: where
    # tRNS lies. odd: whether anything was seen that decoders read differently.
    def step(
        at: Number,
        length: Number,
        name: Number,
        exif_at: Number,
        past: Number,
        colours: Number,
        key_at: Number,
        odd: Number,
    ) -> tuple[Number, ...]:
        pixels, table, keys = name == 0x49444154, name == 0x504C5445, name == 0x74524E53
        # Whoever does not know a critical chunk (first letter a capital) must give up.
        strange = (name // 2**29) % 2 == 0
        known = pixels | table | ((name == 0x49484452) & (at == 8))
        fault = (file.letters(at + 4) ^ True) | (strange & (known ^ True))  # ^ True: `not`, for tensors too
        fault = fault | (pixels & (past == 2)) | (table & ((past > 0) | (colours > 0) | (length == 0)))
        fault = fault | (keys & ((past > 0) | (key_at > 0) | (length == 0) | (palette & (colours == 0))))
        following = at + 12 + length
        return (
            following,
            number(following, 4),
            number(following + 4, 4),
            where((name == 0x65584966) & (exif_at == 0), at + 8, exif_at),
            where(pixels, 1, where(past > 0, 2, 0)),
            where(table, length, colours),
            where(keys, at, key_at),
            where(fault, 1, odd),
        )

    start = *_constant(file, 8), number(8, 4), number(12, 4), *_constant(file, 0, 0, 0, 0, 0)
    state = file.walk(more, step, start, MOST_CHUNKS)
    at, length, name, exif_at, past, colours, key_at, odd = state
    key = where(key_at > 0, number(key_at, 4), 0)
    powers = (depth == 1) | (depth == 2) | (depth == 4)
    legal = (depth == 8) | ((depth == 16) & (colour != 3)) | (powers & ((colour == 0) | (colour == 3)))
    legal = legal & ((colour == 0) | (colour == 2) | palette | (colour == 4) | (colour == 6))
    legal = legal & (number(8, 4) == 13) & (number(12, 4) == 0x49484452) & (number(26, 2) == 0) & (number(28, 1) <= 1)
    # libpng's own limit of a side.
    legal = legal & (width > 0) & (height > 0) & (width <= 1_000_000) & (height <= 1_000_000)
    legal = legal & ((palette ^ True) | ((colours > 0) & (colours <= 768) & (colours % 3 == 0)))
    key_length = where(palette, colours // 3, where(colour == 0, 2, where(colour == 2, 6, 0)))
    legal = legal & (key <= key_length) & (palette | (key == 0) | (key == key_length))
    # libpng passes over a transparency that is damaged, and TensorFlow makes up another.
    fits = where(legal & (key > 0), 1, 0)
    (sound,) = file.choose(fits, [lambda: _constant(file, 1), lambda: (file.sum_holds(key_at, key),)])
    legal = legal & (sound == 1)
    ends = (name == 0x49454E44) & (length == 0) & (at + 12 <= file.size)
    refusal = where(legal & ends & (past > 0) & (odd == 0), _OK, _PNG)
    shallow = (colour == 0) & (depth < 8)
    refusal = where((refusal == _OK) & (key > 0) & (shallow | (depth == 16)), _KEYED, refusal)
    refusal = where(more(at, length, name), _PARTS, refusal)
    clear = where((key > 0) | (colour == 4) | (colour == 6), 1, 0)
    # An eXIf block may begin like one in a JPEG, though it should not.
    exif_at = _after_prefix(file, exif_at)
    return exif_at, width * height, where(clear == 1, 16, 8), refusal, file.size, clear


def _gif(file: Any) -> tuple[Number, ...]:
    number, where = file.number, file.where
    width, height, flags = number(6, 2, True), number(8, 2, True), number(10, 1)

    def table(flags: Number) -> Number:
        """How many colours the table has that the flags announce."""
        return where(flags // 128 % 2 == 1, 2 ** (flags % 8 + 1), 0)

    # inside: 0 between blocks, 1 among the sub-blocks of an extension, 2 among those of the first picture, 3 behind it,
    # 4 where no block can begin. controls: how many extensions said what is transparent.
    def more(at: Number, inside: Number, *_: Number) -> Number:
        return (at < file.size) & (inside < 3)

    def step(at: Number, inside: Number, picture: Number, controls: Number) -> tuple[Number, ...]:
        byte = number(at, 1)
        between, last = inside == 0, byte == 0
        # TensorFlow's reader loses its place in an extension without a sub-block.
        extension, image = between & (byte == 0x21) & (number(at + 2, 1) > 0), between & (byte == 0x2C)
        # Image descriptor: ten bytes, its own table of colours, one byte of LZW; then sub-blocks, the last one empty.
        move = where(image, 11 + 3 * table(number(at + 9, 1)), where(extension, 2, 1 + byte))
        after = where(last, where(inside == 2, 3, 0), inside)
        begun = where(extension, 1, where(image, 2, 4))
        control = extension & (number(at + 1, 1) == 0xF9)
        return at + move, where(between, begun, after), where(image, at, picture), controls + where(control, 1, 0)

    start = 13 + 3 * table(flags), *_constant(file, 0, 0, 0)
    at, inside, picture, controls = file.walk(more, step, start, MOST_CHUNKS)
    fills = (number(picture + 1, 4) == 0) & (number(picture + 5, 2, True) == width)
    fills = fills & (number(picture + 7, 2, True) == height)
    own = table(number(picture + 9, 1))
    colours = where(own > 0, own, table(flags))
    whole = (inside == 3) & (picture > 0) & (controls <= 1) & (width > 0) & (height > 0) & (colours > 0)
    refusal = where(more(at, inside), _PARTS, where(whole & fills, _OK, _GIF))
    end = where(inside == 3, at, file.size)
    return *_constant(file, 0), width * height, *_constant(file, 8), refusal, end, colours


def _bmp(file: Any) -> tuple[Number, ...]:
    number, where = file.number, file.where
    offset, header, bits = number(10, 4, True), number(14, 4, True), number(28, 2, True)
    width, height = number(18, 4, True), number(22, 4, True)
    # A negative height says that the first row is the upper one.
    height = where(height >= 2**31, 2**32 - height, height)
    width, height = where(width > _FAR, _FAR, width), where(height > _FAR, _FAR, height)
    row = (width * (bits // 8) + 3) // 4 * 4
    plain = ((bits == 24) | (bits == 32)) & (number(30, 4, True) == 0) & (number(26, 2, True) == 1)
    plain = plain & ((header == 40) | (header == 52) | (header == 56) | (header == 108) | (header == 124))
    plain = plain & (width > 0) & (height > 0)
    end = offset + row * where(plain, height, 0)
    whole = plain & (offset >= 14 + header) & (end <= file.size)
    refusal, end = where(whole, _OK, _BMP), where(whole, end, file.size)
    return *_constant(file, 0), width * height, *_constant(file, 8), refusal, end, *_constant(file, 0)


def _webp(file: Any) -> tuple[Number, ...]:
    number, where = file.number, file.where
    first = number(12, 4)
    extended = first == 0x56503858  # "VP8X": the only layout that can hold EXIF
    end = number(4, 4, True) + 8

    def more(at: Number, *_: Number) -> Number:
        return (at + 8 <= end) & (at + 8 <= file.size)

    def step(at: Number, exif_at: Number, pictures: Number, alphas: Number) -> tuple[Number, ...]:
        length, name = number(at + 4, 4, True), number(at, 4)
        return (
            # Chunks are padded to an even length.
            at + 8 + length + length % 2,
            where((name == 0x45584946) & (exif_at == 0), at + 8, exif_at),
            # A second head counts as a second picture.
            pictures + where((name == 0x56503820) | (name == 0x5650384C) | ((name == 0x56503858) & (at > 12)), 1, 0),
            # Behind its picture an alpha channel counts as a second one.
            alphas + where(name == 0x414C5048, 1 + pictures, 0),
        )

    at, exif_at, pictures, alphas = file.walk(more, step, _constant(file, 12, 0, 0, 0), MOST_SEGMENTS)
    canvas = (number(24, 4, True) % 2**24 + 1) * (number(27, 4, True) % 2**24 + 1)
    packed = number(21, 4, True)
    lossless = (packed % 2**14 + 1) * (packed // 2**14 % 2**14 + 1)
    lossy = (number(26, 2, True) % 2**14) * (number(28, 2, True) % 2**14)
    pixels = where(extended, canvas, where(first == 0x5650384C, lossless, lossy))
    # TensorFlow 2.21's decoder aborts the whole process on some animations.
    animated = extended & (number(20, 1) // 2 % 2 == 1)
    whole = (at == end) & (end <= file.size) & (pictures == 1) & (alphas <= 1)
    whole = whole & (extended | (first == 0x56503820) | (first == 0x5650384C))
    refusal = where(animated, _ANIMATED, where(whole, _OK, _WEBP))
    refusal = where(more(at), _PARTS, refusal)
    exif_at = where(extended, _after_prefix(file, exif_at), 0)
    return exif_at, pixels, *_constant(file, 20), refusal, end, *_constant(file, 0)


def _after_prefix(file: Any, exif_at: Number) -> Number:
    """Writers differ in whether the block of a PNG or a WebP begins with ``Exif`` and two zeros, as in a JPEG."""
    prefixed = (exif_at > 0) & (file.number(exif_at, 4) == 0x45786966) & (file.number(exif_at + 4, 2) == 0)
    return exif_at + file.where(prefixed, 6, 0)


READERS = dict(zip(SERVED_FORMATS, (_jpeg, _png, _gif, _bmp, _webp), strict=True))
