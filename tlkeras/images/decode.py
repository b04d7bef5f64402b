"""The one decoder: bytes of an image file to upright RGB pixels, by Pillow.

The type is told by the first bytes, never by the file's name. What a served TensorFlow graph
(``tlkeras.images.graph``) decodes to the very same pixels is told apart from what it must refuse, by the one reading
of the header that both share (``tlkeras.images.header``).
"""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.errors import ImageError
from tlkeras.images.header import (
    MOST_MEMORY,
    MOST_PIXELS,
    REFUSALS,
    SERVED_FORMATS,
    TOO_LARGE,
    Header,
    exif_orientation,
    kind_of,
    read_header,
)
from tlkeras.images.parts import Bytes, ends_early, plain, why_unserved
from tlkeras.images.resize import upright

# We hold every image to Limits before a pixel of it is decoded, so Pillow's own warning says nothing new.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

FORMATS = (*SERVED_FORMATS, "tiff", "avif")
# Major and compatible brands of an ISO base media file (HEIF 23008-12, AV1 Image File Format).
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
# Formats that are known and not read, by their first bytes; a Targa file is told by its last.
_UNREAD = {
    **{b"P%d%c" % (kind, blank): "PPM, PGM and PBM" for kind in range(1, 8) for blank in b" \t\r\n"},
    **dict.fromkeys((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "JPEG 2000"),
    **dict.fromkeys((b"\0\0\0\x0cJXL ", b"\xff\x0a"), "JPEG XL"),
    b"\0\0\1\0": "ICO",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
}
# Bytes for each pixel of what no graph decodes (the others': tlkeras.images.header), as measured.
_MEMORY_PER_PIXEL = {"tiff": 10, "avif": 20}
# Rows of so many pixels at a time become RGB: a large picture is never held in wider numbers.
_BLOCK_PIXELS = 2**20
# TIFF 6.0 and DNG: a directory of a preview, and the version of the raw format.
_SUBFILE_TAG, _DNG_TAG, _BITS_TAG = 254, 50706, 258


@dataclass(frozen=True)
class Limits:
    """What one image may cost: bytes of its file, and pixels once decoded (3 bytes each)."""

    max_bytes: int = 128 * 1024 * 1024
    max_pixels: int = MOST_PIXELS


@dataclass(frozen=True)
class DecodedImage:
    """An image and what had to be done to it.

    pixels: uint8 ``[H, W, 3]`` RGB, upright. With ``at_least_px`` they may be smaller than the image.
    format: one of ``FORMATS``.
    width, height: upright size of the whole image in pixels.
    orientation: EXIF orientation 1..8 that was undone.
    repairs: what was changed so that it could be used, in words; empty for an ordinary photo.
    unserved: why a served graph refuses this file; empty when it decodes it to the same pixels.
    bits: of the samples, how many are used; 8 but for images of 16 bits a sample, of which the lower ones are lost.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    orientation: int = 1
    repairs: tuple[str, ...] = ()
    unserved: str = ""
    bits: int = 8


class _Budget:
    """Memory that all threads share: who needs more than is left waits until others are done."""

    def __init__(self, most: int) -> None:
        self._left = self._most = most
        self._changed = threading.Condition()

    @contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        amount = min(amount, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


_budget = _Budget(MOST_MEMORY)


def sniff(data: bytes) -> str | None:
    """The image format that the first bytes tell, or None: one of ``FORMATS``, or ``"heic"``."""
    kind = kind_of(Bytes(data[:16]))
    if kind >= 0:
        return SERVED_FORMATS[kind]
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if data[4:8] == b"ftyp":
        box = data[8 : min(int.from_bytes(data[:4], "big"), 1024)]
        # The brand of a whole family (mif1) comes first in some AVIF files, so all of them count.
        brands = [data[8:12], *(box[at : at + 4] for at in range(8, len(box), 4))]
        for kind, names in (("avif", _AVIF_BRANDS), ("heic", _HEIC_BRANDS)):
            if any(brand in names for brand in brands):
                return kind
    return None


def _unread(data: bytes) -> str:
    """The name of a format that is known and not read; empty for what is no image that we know."""
    if data[-18:-2] == b"TRUEVISION-XFILE":
        return "Targa"
    if data.lstrip()[:5] in (b"<svg ", b"<?xml") and b"<svg" in data[:1024]:
        return "SVG"
    return next((name for start, name in _UNREAD.items() if data.startswith(start)), "")


def read_bytes(path: str | Path, limits: Limits = Limits()) -> bytes:
    """The bytes of an image file.

    Raises: ImageError with reason ``missing``, ``unreadable``, ``empty`` or ``too_large`` (before reading).
    """
    path = Path(path)
    try:
        # Opening a pipe would wait for ever, reading a device would never end.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise ImageError("unreadable", "this is no regular file", received=f"'{path}'")
        with path.open("rb") as file:
            # The file may have grown since; more than the limit is never held.
            data = file.read(limits.max_bytes + 1)
        if len(data) > limits.max_bytes:
            raise _too_large(f"{max(status.st_size, len(data)):,} bytes", f"{limits.max_bytes:,} bytes")
    except FileNotFoundError:
        raise ImageError("missing", "no such image file", received=f"'{path}'") from None
    except ImageError:
        raise
    except ValueError:  # a NUL byte
        raise ImageError("missing", "no file has such a name", received=f"{str(path)!r}") from None
    except OSError as error:
        raise ImageError("unreadable", f"the file cannot be read ({error.strerror})", received=f"'{path}'") from None
    if not data:
        raise ImageError("empty", "the file is empty", received="0 bytes")
    return data


def decode(data: bytes, limits: Limits = Limits(), *, at_least_px: int | None = None) -> DecodedImage:
    """Decode the bytes of one image file.

    The first frame of an animation is taken. Transparent areas become white (black in a GIF, which is what
    TensorFlow's decoder makes of them), 16-bit samples keep their high byte, CMYK is converted without its
    colour profile. With ``at_least_px`` a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, both sides
    staying at least that long: all of its data is still read and checked, for about half the time. Once fitted, such
    pixels differ by up to 63 of 255 (``benchmarks/short_way.py --pixels``): they are for people to look at.

    Raises: ImageError with reason ``empty``, ``not_an_image``, ``unsupported``, ``too_large``, ``truncated``
    or ``unreadable``.
    """
    if not data:
        raise ImageError("empty", "the file is empty", received="0 bytes")
    if len(data) > limits.max_bytes:
        raise _too_large(f"{len(data):,} bytes", f"{limits.max_bytes:,} bytes")
    kind = sniff(data)
    if unread := "HEIC" if kind == "heic" else _unread(data) if kind is None else "":
        raise ImageError("unsupported", f"{unread} files are not read", next_step="Convert the file to JPEG or PNG.")
    if kind is None:
        raise ImageError("not_an_image", "the file is not an image", received=f"first bytes {data[:12]!r}")
    header = read_header(Bytes(data)) if kind in SERVED_FORMATS else None
    if header is not None:
        _check_size(header.pixels, header.memory, limits)
    try:
        kept = plain(data, kind, header)
        image = Image.open(io.BytesIO(kept), formats=[kind.upper()])
        width, height = image.size
        memory = header.memory if header is not None else width * height * _MEMORY_PER_PIXEL[kind]
        _check_size(width * height, memory, limits)
        tags: Any = getattr(image, "tag_v2", {})  # of a TIFF
        if tags.get(_SUBFILE_TAG, 0) == 1 or _DNG_TAG in tags or (kind == "tiff" and data[8:10] == b"CR"):
            raise ImageError("unsupported", "RAW photos are not read", next_step="Export the photo as JPEG.")
        if at_least_px is not None and kind == "jpeg":
            image.draft(None, (at_least_px, at_least_px))
        with _budget.taking(memory):
            image.load()
            # Of a GIF, the largest number of a colour.
            extrema: Any = image.getextrema() if kind == "gif" and image.mode in ("P", "L") else (0, 0)
            orientation = _orientation(image) if header is None else int(header.orientation)
            rgb, repairs = _to_rgb(image, kind)
            deep = data[24] == 16 if kind == "png" else kind == "tiff" and 16 in tags.get(_BITS_TAG, ())
            # The lower eight bits of deep samples are cut off.
            bits = 8 + int(rgb.max()).bit_length() if deep else 8
            repairs += _left_out(image, data, header)
            image.close()
            del image  # its memory serves for turning the pixels
            pixels = upright(rgb, orientation)
    except Image.DecompressionBombError:
        raise _too_large("more pixels than Pillow opens", f"{limits.max_pixels:,} pixels") from None
    except ImageError:
        raise
    # Pillow's format readers meet hostile bytes with any exception that Python has (struct.error, KeyError,
    # zlib.error, MemoryError …); whichever it is, it means that this one file cannot be decoded.
    except Exception as error:
        if ends_early(data, kind):
            raise ImageError("truncated", f"the {kind.upper()} file ends before its image does",
                             received=f"{len(data):,} bytes") from None  # fmt: skip
        words = str(error) or type(error).__name__
        raise ImageError("unreadable", f"the {kind.upper()} file is damaged ({words})") from None
    if orientation != 1:
        repairs = (*repairs, f"turned upright (EXIF orientation {orientation})")
    if orientation >= 5:
        width, height = height, width
    unserved = why_unserved(data, kept, kind, header, int(extrema[1]))
    return DecodedImage(pixels, kind, width, height, orientation, repairs, unserved, bits)


def from_pillow(image: Image.Image) -> np.ndarray:
    """Pixels of an open Pillow image by the rules of ``decode``: uint8 ``[H, W, 3]`` RGB, upright.

    Raises: ImageError with reason ``unsupported`` for a mode without a known range.
    """
    image.load()
    return upright(_to_rgb(image, (image.format or "").lower())[0], _orientation(image))


def _left_out(image: Any, data: bytes, header: Header | None) -> tuple[str, ...]:
    """Says that there are more pictures in the file than the one that is used."""
    several = getattr(image, "n_frames", 1) > 1
    if header is not None and image.format == "GIF":
        several = data[header.end : header.end + 1] in (b"\x21", b"\x2c") and b"\x2c" in data[header.end :]
    if header is not None and image.format == "PNG":
        several = b"acTL" in data[:1024]
    return ("the first of several pictures taken",) if several else ()


def _check_size(pixels: int, memory: int, limits: Limits) -> None:
    if pixels > limits.max_pixels:
        raise _too_large(f"{pixels:,} pixels", f"{limits.max_pixels:,} pixels")
    if memory > MOST_MEMORY:
        raise ImageError("too_large", REFUSALS[TOO_LARGE], received=f"{pixels:,} pixels, {memory // 2**20:,} MiB")


def _too_large(received: str, limit: str) -> ImageError:
    return ImageError("too_large", f"an image may have at most {limit}", received=received)


def _orientation(image: Image.Image) -> int:
    """What the EXIF block of an image that Pillow opened says, by the one rule; TIFF is turned by Pillow itself."""
    block = image.info.get("exif", b"")
    if not isinstance(block, bytes):
        return 1
    return int(exif_orientation(Bytes(block), 6 if block.startswith(b"Exif\0\0") else 0))


def _to_rgb(image: Image.Image, kind: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 [H, W, 3] of any Pillow mode, and what was done in words."""
    width, height = image.size
    rows = max(1, _BLOCK_PIXELS // width)
    if rows >= height:
        pixels, words = _rows_to_rgb(image, kind)
        return pixels, (words,) if words else ()
    pixels, said = np.empty((height, width, 3), np.uint8), set()
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom], words = _rows_to_rgb(image.crop((0, top, width, bottom)), kind)
        said.add(words)
    return pixels, tuple(sorted(said - {""}))


def _rows_to_rgb(image: Image.Image, kind: str) -> tuple[np.ndarray, str]:
    """Some rows of an image as RGB, and what was done to them."""
    mode = image.mode
    if mode in ("RGB", "L", "1") and "transparency" not in image.info:
        return np.asarray(image.convert("RGB")), ""
    if mode.startswith("I;16") or mode == "I":
        samples = np.asarray(image)
        if samples.min() < 0 or samples.max() > 0xFFFF:
            raise ImageError("unsupported", "32-bit samples have no known range", next_step="Convert it to 8 bits.")
        grey = (samples >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), "16 bits a sample cut to 8"
    if mode in ("CMYK", "YCbCr"):
        return np.asarray(image.convert("RGB")), f"{mode} converted to RGB"
    if mode in ("P", "PA", "LA", "RGBA", "RGB", "L", "1"):
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[..., 3:]
        if (alpha == 255).all():
            return np.ascontiguousarray(rgba[..., :3]), ""
        if kind == "gif":
            return np.where(alpha == 0, np.uint8(0), rgba[..., :3]), "transparent areas made black"
        return over_white(rgba), "transparent areas made white"
    raise ImageError("unsupported", f"pixels of type {mode} have no known range", next_step="Convert it to 8-bit RGB.")


def over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay uint8 ``[H, W, 4]`` over white: uint8 ``[H, W, 3]``, in whole numbers so that every runtime agrees."""
    wide = rgba.astype(np.int32)
    colour, alpha = wide[..., :3], wide[..., 3:]
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
