"""Seeded files that no camera wrote: every part of every format changed, doubled, left out or made to lie."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.pictures import encode, photo, with_orientation
from tests.zoo import chunk

Random = np.random.Generator
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def files(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """``count`` files and what was done to each; the same for the same seed."""
    for number in range(count):
        random = np.random.default_rng([seed, number])
        kind = ("JPEG", "PNG", "PNG", "GIF", "BMP", "WEBP")[number % 6]
        words, data = BASES[kind](random)
        own, common = CHANGES[kind], (flipped, cut, followed)
        for _ in range(int(random.integers(1, 3))):
            change = own[random.integers(len(own))] if random.random() < 0.7 else common[random.integers(3)]
            data = change(random, data)
            words += f", {change.__name__}"
        yield f"{seed}/{number} {kind} {words}", data


def picture(random: Random) -> Image.Image:
    width, height = (int(side) for side in random.integers(5, 60, 2))
    return photo(width, height, int(random.integers(1 << 30)))


def jpeg(random: Random) -> tuple[str, bytes]:
    mode = ("RGB", "RGB", "RGB", "L", "CMYK")[random.integers(5)]
    options = {"progressive": bool(random.integers(2)), "subsampling": int(random.integers(3))}
    if random.random() < 0.3:
        options["restart_marker_blocks"] = 2
    return mode, encode(picture(random).convert(mode), "JPEG", quality=int(random.integers(20, 99)), **options)


def png(random: Random) -> tuple[str, bytes]:
    colour = int(random.choice([0, 2, 3, 4, 6]))
    depth = int(random.choice({0: [1, 2, 4, 8, 16], 3: [1, 2, 4, 8]}.get(colour, [8, 16])))
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width, height = (int(side) for side in random.integers(1, 40, 2))
    row = (width * samples * depth + 7) // 8
    # Filter 0 to 4 and any bytes: noise, but legal.
    rows = b"".join(bytes([random.integers(5)]) + random.bytes(row) for _ in range(height))
    body = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    if colour == 3:
        body.append((b"PLTE", random.bytes(3 * int(random.integers(1, 2**depth + 1)))))
    if random.random() < 0.5:
        body.append((b"tRNS", _key(random, colour)))
    packed = zlib.compress(rows)
    half = len(packed) // 2
    body += [(b"IDAT", packed[:half]), (b"IDAT", packed[half:]), (b"IEND", b"")]
    return f"{depth} bits of colour {colour}", _png(body)


def _key(random: Random, colour: int) -> bytes:
    if random.random() < 0.25:
        return random.bytes(int(random.integers(0, 300)))
    if colour == 3:
        return random.bytes(int(random.integers(1, 5)))
    return bytes(1) + bytes([random.integers(4)]) if colour == 0 else random.bytes(6)


def gif(random: Random) -> tuple[str, bytes]:
    first = picture(random)
    options: dict[str, object] = {"interlace": int(random.integers(2))}
    if random.random() < 0.3:
        options |= {"save_all": True, "append_images": [photo(*first.size, 7), photo(*first.size, 8)]}
    if random.random() < 0.3:
        options["transparency"] = 3
    return "", encode(first.quantize(int(random.integers(2, 257))), "GIF", **options)


def bmp(random: Random) -> tuple[str, bytes]:
    mode = ("RGB", "RGB", "RGBA", "L", "1", "P")[random.integers(6)]
    return mode, encode(picture(random).convert(mode), "BMP")


def webp(random: Random) -> tuple[str, bytes]:
    image, options = picture(random), {"lossless": bool(random.integers(2))}
    if random.random() < 0.4:
        image.putalpha(Image.fromarray(random.integers(0, 256, image.size[::-1], np.uint8)))
    if random.random() < 0.15:
        options |= {"save_all": True, "append_images": [photo(*image.size, 7)]}
    if random.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = int(random.integers(1, 9))
        options["exif"] = exif
    return "", encode(image, "WEBP", **options)


# What may be done to any file.


def flipped(random: Random, data: bytes) -> bytes:
    """Some bytes changed, more often near the beginning."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        reach = min(len(data), 120) if random.random() < 0.5 else len(data)
        if reach:
            changed[random.integers(reach)] = random.integers(256)
    return bytes(changed)


def cut(random: Random, data: bytes) -> bytes:
    return data[: -int(random.choice([1, 2, 3, 9, 12, 13, 40, max(1, len(data) // 2)]))]


def followed(random: Random, data: bytes) -> bytes:
    """Something behind the picture, as motion photos have it."""
    tails = (b"\0" * 9, b"\n", random.bytes(70), random.bytes(3000), b"\0\0\0\x18ftypmp42" + random.bytes(400), data)
    return data + tails[random.integers(len(tails))]


def exif_block(random: Random) -> bytes:
    """A TIFF header and a directory; the tag of orientation of any type and count, also twice, or not at all."""
    order, little = ((b"II", "<"), (b"MM", ">"))[random.integers(2)], True
    mark, end = order
    del little
    entries = []
    for _ in range(int(random.integers(0, 4))):
        tag = int(random.choice([0x0112, 0x0112, 0x010F, 0x0213]))
        kind, count = int(random.choice([3, 3, 3, 1, 2, 4, 8, 9, 5])), int(random.choice([1, 1, 1, 0, 2, 5]))
        value = int(random.integers(0, 11))
        payload = struct.pack(f"{end}I", value) if kind in (4, 9) else struct.pack(f"{end}HH", value, 0)
        if kind in (1, 2):
            payload = bytes([value, 0, 0, 0])
        entries.append(struct.pack(f"{end}HHI", tag, kind, count) + payload)
    offset = int(random.choice([8, 8, 8, 8, 9, 7, 200]))
    head = mark + struct.pack(f"{end}HI", int(random.choice([42, 42, 42, 43])), offset)
    directory = struct.pack(f"{end}H", len(entries)) + b"".join(entries) + bytes(4)
    return head + bytes(max(0, offset - 8)) + directory


def xmp(random: Random) -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
        % random.integers(1, 9)
    )


# JPEG: the segments before the entropy-coded data.


def segments(data: bytes) -> tuple[list[bytes], bytes]:
    """The segments before SOS, and the rest."""
    found, at = [], 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data) and data[at + 1] not in (0xDA, 0xD9):
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        found.append(data[at:end])
        at = end
    return found, data[at:]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _jpeg_with(random: Random, data: bytes, make: Callable[[], bytes]) -> bytes:
    parts, rest = segments(data)
    for _ in range(int(random.integers(1, 3))):
        parts.insert(int(random.integers(len(parts) + 1)), make())
    return data[:2] + b"".join(parts) + rest


def jpeg_exif(random: Random, data: bytes) -> bytes:
    return _jpeg_with(random, data, lambda: segment(0xE1, b"Exif\0\0" + exif_block(random)))


def jpeg_xmp(random: Random, data: bytes) -> bytes:
    return _jpeg_with(random, data, lambda: segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(random)))


def jpeg_stray(random: Random, data: bytes) -> bytes:
    """A segment of another kind, or fill bytes."""
    kinds = (0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xD0, 0x01, 0xC8)

    def make() -> bytes:
        if random.random() < 0.4:
            return b"\xff" * int(random.choice([1, 2, 300]))
        return segment(int(random.choice(kinds)), random.bytes(int(random.integers(0, 40))))

    return _jpeg_with(random, data, make)


def jpeg_shuffled(random: Random, data: bytes) -> bytes:
    parts, rest = segments(data)
    if parts:
        at = int(random.integers(len(parts)))
        what = int(random.integers(3))
        if what == 0:
            del parts[at]
        elif what == 1:
            parts.insert(int(random.integers(len(parts))), parts[at])
        else:
            random.shuffle(parts)
    return data[:2] + b"".join(parts) + rest


# PNG: chunks.


def _png(parts: list[tuple[bytes, bytes]]) -> bytes:
    return SIGNATURE + b"".join(chunk(name, content) for name, content in parts)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_inserted(random: Random, data: bytes) -> bytes:
    parts = chunks(data)
    text = b"Comment\0" + b"x" * int(random.integers(0, 99))
    made = [
        (b"eXIf", exif_block(random)),
        (b"eXIf", b"Exif\0\0" + exif_block(random)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(random)),
        (b"tEXt", text),
        (b"zTXt", b"big\0\0" + zlib.compress(b"x" * (1 << int(random.integers(3, 24))))),
        (b"iCCP", b"p\0\0" + random.bytes(30)),
        (b"gAMA", struct.pack(">I", int(random.integers(0, 1 << 18)))),
        (b"sRGB", b"\0"),
        (b"cHRM", random.bytes(32)),
        (b"bKGD", random.bytes(6)),
        (b"sBIT", random.bytes(int(random.integers(1, 5)))),
        (b"hIST", random.bytes(16)),
        (b"acTL", struct.pack(">II", 2, 0)),
        (b"fcTL", random.bytes(26)),
        (b"IDAT", b""),
        (b"tRNS", _key(random, int(random.choice([0, 2, 3, 6])))),
        (b"PLTE", random.bytes(int(random.choice([3, 30, 768, 771, 4, 0])))),
        (b"prVt", b"x"),
        (b"CrIt", b"x"),
        (b"a1b2", b"x"),
        (b"IEND", b""),
    ]
    for _ in range(int(random.integers(1, 3))):
        parts.insert(int(random.integers(0, len(parts) + 1)), made[random.integers(len(made))])
    return _png(parts)


def png_shuffled(random: Random, data: bytes) -> bytes:
    parts = chunks(data)
    if parts:
        at, what = int(random.integers(len(parts))), int(random.integers(3))
        if what == 0:
            del parts[at]
        elif what == 1:
            parts.insert(int(random.integers(len(parts) + 1)), parts[at])
        else:
            parts[at] = (parts[at][0], parts[at][1][: int(random.integers(len(parts[at][1]) + 1))])
    return _png(parts)


def png_wrong_sum(random: Random, data: bytes) -> bytes:
    at, places = 8, []
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        places.append(at + 8 + length)
        at += 12 + length
    changed = bytearray(data)
    at = places[random.integers(len(places))] if places else 0
    if at < len(changed):
        changed[at] ^= 0x55
    return bytes(changed)


def png_header(random: Random, data: bytes) -> bytes:
    """Another depth, colour, filter or interlacing, with the right sum; or sides that are too large."""
    parts = chunks(data)
    header = bytearray(parts[0][1].ljust(13, b"\0")) if parts else bytearray(13)
    if random.random() < 0.2:
        header[:8] = struct.pack(">II", *(int(side) for side in random.choice([0, 1, 1 << 16, 1 << 31, 2_000_000], 2)))
    else:
        at = int(random.integers(8, 13))
        header[at] = int(random.choice([0, 1, 2, 3, 4, 6, 8, 16]))
    return _png([(b"IHDR", bytes(header)), *parts[1:]])


def png_pixels(random: Random, data: bytes) -> bytes:
    """Another stream of pixels: too short, too long, or with a wrong end."""
    parts = chunks(data)
    packed = b"".join(content for name, content in parts if name == b"IDAT")
    try:
        rows = zlib.decompress(packed)
    except zlib.error:
        return data
    made = (
        zlib.compress(rows + random.bytes(50)),
        zlib.compress(rows[: len(rows) * 3 // 4]),
        zlib.compress(rows)[:-2] + b"xx",
        zlib.compress(rows)[:-4],
        zlib.compress(rows) + b"behind",
        zlib.compress(bytes(len(rows)), 0),
    )[random.integers(6)]
    before = [part for part in parts if part[0] not in (b"IDAT", b"IEND")]
    return _png([*before, (b"IDAT", made), (b"IEND", b"")])


# GIF, BMP, WebP: fields at known places.


def gif_screen(random: Random, data: bytes) -> bytes:
    """A screen of another size than the picture, or the picture elsewhere on it."""
    changed = bytearray(data)
    if random.random() < 0.5 or b"\x2c\0\0\0\0" not in data:
        changed[6:10] = struct.pack("<HH", *(int(side) for side in random.integers(1, 70, 2)))
    else:
        at = data.index(b"\x2c\0\0\0\0")
        place = int(random.choice([1, 3, 5, 7]))
        changed[at + place : at + place + 2] = struct.pack("<H", int(random.integers(0, 70)))
    return bytes(changed)


def gif_blocks(random: Random, data: bytes) -> bytes:
    """Extensions in front of the picture, or more pictures behind it."""
    comment = b"\x21\xfe" + b"".join(b"\x05hello" for _ in range(int(random.integers(0, 9)))) + b"\0"
    control = b"\x21\xf9\x04" + random.bytes(4) + b"\0"
    plain = b"\x21\x01\x0c" + bytes(12) + b"\x03abc\0"
    made = (comment, control, plain, b"\0", b"\x21")[random.integers(5)]
    table = 3 * 2 ** (data[10] % 8 + 1) if data[10] & 0x80 else 0
    at = 13 + table
    if random.random() < 0.3:
        return data[:-1] + data[at:]
    return data[:at] + made + data[at:]


def bmp_field(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    field, size, values = (
        (22, 4, [-1, -20, 0, 1 << 20]),
        (18, 4, [-5, 0, 1, 1 << 20]),
        (26, 2, [0, 1, 2]),
        (28, 2, [1, 4, 8, 16, 24, 32]),
        (30, 4, [0, 1, 2, 3]),
        (10, 4, [14, 54, 58, 138, 5000]),
        (14, 4, [12, 40, 52, 56, 64, 108, 124, 16]),
        (46, 4, [0, 5, 1 << 30]),
        (2, 4, [0, 1 << 30]),
    )[random.integers(9)]
    value = int(random.choice(values))
    if field == 22 and value == -1:  # the same picture, its upper row first
        value = -struct.unpack("<i", data[22:26])[0]
    changed[field : field + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(changed)


def webp_chunks(random: Random, data: bytes) -> bytes:
    parts, at = [], 12
    while at + 8 <= len(data):
        length = struct.unpack("<I", data[at + 4 : at + 8])[0]
        parts.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    at, what = int(random.integers(len(parts))) if parts else 0, int(random.integers(5))
    if what == 0 and parts:
        del parts[at]
    elif what == 1 and parts:
        parts.insert(at, parts[at])
    else:
        prefix = b"Exif\0\0" if random.random() < 0.4 else b""
        made = [(b"EXIF", prefix + exif_block(random)), (b"XMP ", xmp(random)), (b"abcd", b"x"), (b"ICCP", b"y" * 9)]
        parts.insert(int(random.integers(len(parts) + 1)), made[random.integers(4)])
    body = b"".join(name + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for name, c in parts)
    size = len(body) + 4 + int(random.choice([0, 0, 0, 0, 1, 2, -1, 100]))
    return b"RIFF" + struct.pack("<I", max(size, 0)) + b"WEBP" + body


def turned(random: Random, data: bytes) -> bytes:
    """The whole file anew, on its side."""
    try:
        image = Image.open(io.BytesIO(data))
        return with_orientation(image, image.format, int(random.integers(1, 9)))
    # Whatever Pillow finds wrong with a file that was changed before.
    except Exception:
        return data


BASES = {"JPEG": jpeg, "PNG": png, "GIF": gif, "BMP": bmp, "WEBP": webp}
CHANGES: dict[str, tuple[Callable[[Random, bytes], bytes], ...]] = {
    "JPEG": (jpeg_exif, jpeg_exif, jpeg_xmp, jpeg_stray, jpeg_shuffled, turned),
    "PNG": (png_inserted, png_inserted, png_shuffled, png_wrong_sum, png_header, png_pixels),
    "GIF": (gif_screen, gif_blocks),
    "BMP": (bmp_field,),
    "WEBP": (webp_chunks, turned),
}
