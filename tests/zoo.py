"""A zoo of bad and strange image files, made on the spot, with the verdict that each one deserves."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, features

from tests.pictures import encode, photo, with_orientation

GOOD = ("good", "")
CONVERTED = ("repaired", "converted")
TURNED = ("repaired", "turned")
MISNAMED = ("repaired", "misnamed")
TRUNCATED = ("rejected", "truncated")
UNREADABLE = ("rejected", "unreadable")
NOT_AN_IMAGE = ("rejected", "not_an_image")
TOO_LARGE = ("rejected", "too_large")
UNSUPPORTED = ("rejected", "unsupported")

_seed = iter(range(10_000, 20_000))


def fresh(width: int = 64, height: int = 48) -> Image.Image:
    """A picture like no other, so that the zoo has no copies by accident."""
    return photo(width, height, seed=next(_seed))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_rgb_png() -> bytes:
    samples = np.asarray(fresh(40, 36)).astype(">u2") * 257
    return png(40, 36, 16, 2, b"".join(b"\0" + row.tobytes() for row in samples))


def bomb_png() -> bytes:
    """60,000 × 60,000 pixels in its header, and little behind it."""
    return png(60_000, 60_000, 1, 0, zlib.compress(b"\0" * 7501))


def packed_bomb_png() -> bytes:
    """169 million pixels that really are there, in a few kilobytes."""
    return encode(Image.new("1", (13_000, 13_000)), "PNG")


def bad_crc_png(kind: bytes) -> bytes:
    data = bytearray(encode(fresh(), "PNG"))
    at = data.index(kind) - 4
    length = struct.unpack(">I", data[at : at + 4])[0]
    data[at + 8 + length] ^= 0xFF
    return bytes(data)


def frames(count: int = 3) -> list[Image.Image]:
    return [fresh(50, 40) for _ in range(count)]


def animation(kind: str) -> bytes:
    first, *rest = frames()
    return encode(first, kind, save_all=True, append_images=rest, duration=80)


def see_through(mode: str) -> Image.Image:
    picture = fresh().convert("RGBA")
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1)))
    picture.putalpha(alpha)
    return picture.convert(mode)


def keyed_gif() -> bytes:
    return encode(fresh().quantize(32), "GIF", transparency=5)


def ycck_jpeg() -> bytes:
    """CMYK whose Adobe marker says that the colours are YCCK."""
    data = encode(fresh().convert("CMYK"), "JPEG")
    at = data.index(b"Adobe")
    return data[: at + 11] + b"\x02" + data[at + 12 :]


def damaged_exif_jpeg() -> bytes:
    data = with_orientation(fresh(), "JPEG", 6)
    at = data.index(b"Exif\0\0") + 6
    return data[:at] + b"\xff" * 8 + data[at + 8 :]


def paletted_bmp(bits: int) -> bytes:
    return encode(fresh().convert("1") if bits == 1 else fresh().quantize(64), "BMP")


def twelve_bit_jpeg() -> bytes:
    data = bytearray(encode(fresh(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1] = 0xC1
    data[at + 4] = 12
    return bytes(data)


def dim_png(bits: int) -> bytes:
    """16-bit grey of which only some bits are used, as a microscope's camera writes it."""
    samples = np.asarray(fresh().convert("L")).astype(np.uint16) << (bits - 8)
    return encode(Image.fromarray(samples), "PNG")


def exif(*entries: tuple[int, int, int, int]) -> bytes:
    """An EXIF block of (tag, type, count, value), big-endian."""
    fields = b"".join(struct.pack(">HHIHH", tag, kind, count, value, 0) for tag, kind, count, value in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + fields + bytes(4)


def with_segments(*contents: bytes) -> bytes:
    """A JPEG with APP1 segments in front."""
    data = encode(fresh(), "JPEG")
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(c) + 2) + c for c in contents) + data[2:]


def xmp_turned() -> bytes:
    return (
        b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF "
        b"xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description "
        b"xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/></rdf:RDF></x:xmpmeta>"
    )


def upper_row_first_bmp() -> bytes:
    data = bytearray(encode(fresh(), "BMP"))
    data[22:26] = struct.pack("<i", -struct.unpack("<i", data[22:26])[0])
    return bytes(data)


def larger_screen_gif() -> bytes:
    data = bytearray(encode(fresh(), "GIF"))
    data[6:10] = struct.pack("<HH", 90, 80)
    return bytes(data)


def pages_tiff() -> bytes:
    first, *rest = frames()
    return encode(first, "TIFF", save_all=True, append_images=rest)


def raw_photo() -> bytes:
    """A TIFF whose first directory is a preview (NewSubfileType 1), as in DNG and NEF."""
    return encode(fresh(160, 120), "TIFF", tiffinfo={254: 1})


def brand(major: bytes, *compatible: bytes) -> bytes:
    box = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", len(box) + 4) + box + bytes(200)


def behind_motion_photo() -> bytes:
    """What phones write behind the picture: a short film."""
    return b"\0\0\0\x18ftypmp42" + np.random.default_rng(7).bytes(3000)


def pdf() -> bytes:
    return b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"


def contents() -> dict[str, tuple[bytes, tuple[str, str]]]:
    """File name → bytes and (status, reason), of everything that is a plain file."""
    jpeg, lossless = encode(fresh(), "JPEG", quality=90), encode(fresh(), "PNG")
    gif, webp = encode(fresh(), "GIF"), encode(fresh(), "WEBP")
    zoo: dict[str, tuple[bytes, tuple[str, str]]] = {
        "plain.jpg": (encode(fresh(), "JPEG"), GOOD),
        "plain.png": (encode(fresh(), "PNG"), GOOD),
        "plain.gif": (encode(fresh(), "GIF"), GOOD),
        "plain.webp": (encode(fresh(), "WEBP"), GOOD),
        "lossless.webp": (encode(fresh(), "WEBP", lossless=True), GOOD),
        "plain.tif": (encode(fresh(), "TIFF"), GOOD),
        "progressive.jpg": (encode(fresh(), "JPEG", progressive=True), GOOD),
        "grey.jpg": (encode(fresh().convert("L"), "JPEG"), GOOD),
        "one bit.png": (encode(fresh().convert("1"), "PNG"), GOOD),
        "animated.gif": (animation("GIF"), CONVERTED),
        "animated.webp": (animation("WEBP"), CONVERTED),
        "animated.png": (animation("PNG"), CONVERTED),
        "24 bits.bmp": (encode(fresh(), "BMP"), GOOD),
        "8 bits.bmp": (paletted_bmp(8), GOOD),
        "1 bit.bmp": (paletted_bmp(1), GOOD),
        "32 bits.bmp": (encode(fresh().convert("RGBA"), "BMP"), GOOD),
        "damaged exif.jpg": (damaged_exif_jpeg(), GOOD),
        "trailing garbage.jpg": (encode(fresh(), "JPEG") + b"garbage" * 20, GOOD),
        "motion photo.jpg": (encode(fresh(), "JPEG") + behind_motion_photo(), GOOD),
        "motion photo.png": (encode(fresh(), "PNG") + behind_motion_photo(), GOOD),
        "followed.bmp": (encode(fresh(), "BMP") + behind_motion_photo(), GOOD),
        "followed.gif": (encode(fresh(), "GIF") + behind_motion_photo(), GOOD),
        "upper row first.bmp": (upper_row_first_bmp(), GOOD),
        "larger screen.gif": (larger_screen_gif(), GOOD),
        "16 colours.png": (encode(fresh().quantize(16), "PNG"), GOOD),
        "turned by XMP alone.jpg": (with_segments(xmp_turned()), GOOD),
        "EXIF without and XMP with a turn.jpg": (with_segments(exif((0x010F, 3, 1, 1)), xmp_turned()), GOOD),
        "tag of orientation twice.jpg": (with_segments(exif((0x0112, 3, 1, 6), (0x0112, 3, 1, 3))), TURNED),
        "signed orientation.jpg": (with_segments(exif((0x0112, 8, 1, 6))), GOOD),
        "orientation of none.jpg": (with_segments(exif((0x0112, 3, 0, 6))), GOOD),
        "EXIF twice.jpg": (with_segments(exif((0x0112, 3, 1, 6)), exif((0x0112, 3, 1, 3))), TURNED),
        "many fill bytes.jpg": (b"\xff\xd8" + b"\xff" * 5000 + encode(fresh(), "JPEG")[2:], GOOD),
        "12 of 16 bits.png": (dim_png(12), ("suspicious", "dark")),
        "10 of 16 bits.png": (dim_png(10), ("suspicious", "dark")),
        "pages.tif": (pages_tiff(), CONVERTED),
        "raw.dng": (raw_photo(), UNSUPPORTED),
        "family.heic": (brand(b"mif1", b"mif1", b"heic"), UNSUPPORTED),
        "sequence.heic": (brand(b"msf1", b"hevc"), UNSUPPORTED),
        "multi.heic": (brand(b"heim", b"mif1"), UNSUPPORTED),
        "film.mp4": (brand(b"mp42", b"isom"), NOT_AN_IMAGE),
        "no ending": (encode(fresh(), "JPEG"), GOOD),
        "ünïcödé 写真.jpg": (encode(fresh(), "JPEG"), GOOD),
        "line\nbreak.jpg": (encode(fresh(), "JPEG"), GOOD),
        "🦓🐈.png": (encode(fresh(), "PNG"), GOOD),
        "[bold red]markup.jpg": (encode(fresh(), "JPEG"), GOOD),
        "x" * 251 + ".jpg": (encode(fresh(), "JPEG"), GOOD),
        "SHOUTED.JPEG": (encode(fresh(), "JPEG"), GOOD),
        "is a gif.jpg": (encode(fresh(), "GIF"), MISNAMED),
        "is a jpeg.png": (encode(fresh(), "JPEG"), MISNAMED),
        "cmyk.jpg": (encode(fresh().convert("CMYK"), "JPEG"), CONVERTED),
        "ycck.jpg": (ycck_jpeg(), CONVERTED),
        "16-bit grey.png": (encode(Image.fromarray(np.asarray(fresh().convert("L")).astype(np.uint16) * 257), "PNG"),
                            CONVERTED),
        "16-bit rgb.png": (deep_rgb_png(), GOOD),
        "rgba.png": (encode(see_through("RGBA"), "PNG"), CONVERTED),
        "grey with alpha.png": (encode(see_through("LA"), "PNG"), CONVERTED),
        "palette with alpha.png": (encode(see_through("RGBA").quantize(32), "PNG"), CONVERTED),
        "keyed.gif": (keyed_gif(), CONVERTED),
        "one pixel.png": (encode(Image.new("RGB", (1, 1), (200, 40, 90)), "PNG"), ("suspicious", "uniform")),
        "one column.png": (encode(fresh(1, 200), "PNG"), ("suspicious", "small")),
        "one row.jpg": (encode(fresh(200, 1), "JPEG"), ("suspicious", "small")),
        "strip.jpg": (encode(fresh(400, 40), "JPEG"), ("suspicious", "extreme_aspect")),
        "thumbnail.jpg": (encode(fresh(24, 20), "JPEG"), ("suspicious", "small")),
        "all grey.jpg": (encode(Image.new("RGB", (64, 64), (90, 90, 90)), "JPEG"), ("suspicious", "uniform")),
        "zero bytes.jpg": (b"", ("rejected", "empty")),
        "text.jpg": (b"this is not a photo\n" * 9, NOT_AN_IMAGE),
        "page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", NOT_AN_IMAGE),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', UNSUPPORTED),
        "paper.pdf": (pdf(), UNSUPPORTED),
        **{f"known.{kind.lower()}": (encode(fresh(), kind), UNSUPPORTED) for kind in ("PPM", "JPEG2000", "ICO", "TGA")},
        "leading garbage.jpg": (b"\r\n\r\n" + encode(fresh(), "JPEG"), NOT_AN_IMAGE),
        "noise.png": (np.random.default_rng(5).bytes(999), NOT_AN_IMAGE),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), UNSUPPORTED),
        "floats.tif": (encode(Image.fromarray(np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)), "TIFF"),
                       UNSUPPORTED),
        "bomb.png": (bomb_png(), TOO_LARGE),
        "packed bomb.png": (packed_bomb_png(), TOO_LARGE),
        "bad crc of pixels.png": (bad_crc_png(b"IDAT"), GOOD),
        "bad crc of header.png": (bad_crc_png(b"IHDR"), UNREADABLE),
        "12 bits.jpg": (twelve_bit_jpeg(), UNREADABLE),
        "only magic.jpg": (b"\xff\xd8\xff", TRUNCATED),
        "only magic.png": (b"\x89PNG\r\n\x1a\n", TRUNCATED),
        "no end mark.gif": (gif[:-1], GOOD),
    }  # fmt: skip
    for data, ending in ((jpeg, "jpg"), (lossless, "png"), (gif, "gif"), (webp, "webp")):
        for length in (1, 2):
            zoo[f"first {length}.{ending}"] = (data[:length], NOT_AN_IMAGE)
        lengths = {"20": 20, "100": 100, "half": len(data) // 2, "nine tenths": len(data) * 9 // 10}
        for words, length in lengths.items():
            zoo[f"first {words}.{ending}"] = (data[:length], TRUNCATED)
    for orientation in range(1, 9):
        name = f"orientation {orientation}.jpg"
        zoo[name] = (with_orientation(fresh(), "JPEG", orientation), GOOD if orientation == 1 else TURNED)
    zoo["orientation 6.png"] = (with_orientation(fresh(), "PNG", 6), TURNED)
    zoo["orientation 3.webp"] = (with_orientation(fresh(), "WEBP", 3), TURNED)
    if features.check("avif"):
        zoo["plain.avif"] = (encode(fresh(), "AVIF"), GOOD)
        avif = encode(fresh(), "AVIF")
        zoo["family brand.avif"] = (avif[:8] + b"mif1" + avif[12:], GOOD)
    return zoo


def make_zoo(folder: Path) -> dict[str, tuple[str, str]]:
    """Fill ``folder``; returns file name → (status, reason) that the audit should give.

    Names are relative to the folder. Besides plain files there are a named pipe, links to nowhere and in a ring, a
    file without permissions (not for root, who may read it), and a folder with an image's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, (data, verdict) in contents().items():
        (folder / name).write_bytes(data)
        expected[name] = verdict
    inner = folder / "a folder named x.jpg"
    inner.mkdir()
    (inner / "inner.png").write_bytes(encode(fresh(), "PNG"))
    expected["a folder named x.jpg/inner.png"] = GOOD
    (folder / "ring").symlink_to(folder)
    (inner / "ring again").symlink_to(inner)
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    expected["dangling.jpg"] = ("rejected", "missing")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    expected["itself.jpg"] = UNREADABLE
    os.mkfifo(folder / "pipe.jpg")
    expected["pipe.jpg"] = UNREADABLE
    latin = os.fsdecode(b"caf\xe9.jpg")
    with contextlib.suppress(OSError):  # some file systems hold UTF-8 names only
        (folder / latin).write_bytes(encode(fresh(), "JPEG"))
        expected[latin] = GOOD
    if os.geteuid() != 0:
        (folder / "locked.jpg").write_bytes(encode(fresh(), "JPEG"))
        (folder / "locked.jpg").chmod(0)
        expected["locked.jpg"] = UNREADABLE
    (folder / "README.md").write_text("nobody's image")
    (folder / ".hidden.jpg").write_bytes(b"x")
    return expected
