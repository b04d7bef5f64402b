"""The one decoder: bytes of an image file to upright RGB pixels, by Pillow.

The type is told by the first bytes, never by the file's name. What a served TensorFlow graph
(``tlkeras.images.graph``) decodes to the very same pixels is told apart from what it must refuse.
"""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.errors import ImageError
from tlkeras.images.orientation import EXIF_TAG, STEPS, upright

# We hold every image to Limits before a pixel of it is decoded, so Pillow's own warning says nothing new.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# What a graph in TF Serving can decode; the rest goes through Pillow in Python and is refused there.
SERVED_FORMATS = ("jpeg", "png", "gif", "bmp", "webp")
FORMATS = (*SERVED_FORMATS, "tiff", "avif")
# Why a served graph refuses a file of one of these formats all the same; the graph says it in the same words.
CMYK = "CMYK JPEG is refused inside a served graph"
PACKED_BMP = "only uncompressed 24-bit and 32-bit BMP can be decoded inside a served graph"
SHALLOW_KEYED_GREY = "grey PNG of 1, 2 or 4 bits with a transparent shade is refused inside a served graph"
ANIMATED_WEBP = "animated WebP is refused inside a served graph"
_ISO_BRANDS = {
    b"avif": "avif",
    b"avis": "avif",
    b"heic": "heic",
    b"heix": "heic",
    b"hevc": "heic",
    b"mif1": "heic",
}


@dataclass(frozen=True)
class Limits:
    """What one image may cost: bytes of its file, and pixels once decoded (3 bytes each)."""

    max_bytes: int = 128 * 1024 * 1024
    max_pixels: int = 120_000_000


@dataclass(frozen=True)
class DecodedImage:
    """An image and what had to be done to it.

    pixels: uint8 ``[H, W, 3]`` RGB, upright. With ``at_least_px`` they may be smaller than the image.
    format: one of ``FORMATS``.
    width, height: upright size of the whole image in pixels.
    orientation: EXIF orientation 1..8 that was undone.
    repairs: what was changed so that it could be used, in words; empty for an ordinary photo.
    unserved: why a served graph refuses this file; empty when it decodes it to the same pixels.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    orientation: int = 1
    repairs: tuple[str, ...] = ()
    unserved: str = ""


def sniff(data: bytes) -> str | None:
    """The image format that the first bytes tell, or None: one of ``FORMATS``, or ``"heic"``."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    # The BITMAPFILEHEADER's reserved words tell a bitmap from a text that starts with "BM".
    if data[:2] == b"BM" and data[6:10] == bytes(4):
        return "bmp"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if data[4:8] == b"ftyp":
        return _ISO_BRANDS.get(data[8:12])
    return None


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
    staying at least that long: all of its data is still read and checked, for about half the time.

    Raises: ImageError with reason ``empty``, ``not_an_image``, ``unsupported``, ``too_large``, ``truncated``
    or ``unreadable``.
    """
    if not data:
        raise ImageError("empty", "the file is empty", received="0 bytes")
    if len(data) > limits.max_bytes:
        raise _too_large(f"{len(data):,} bytes", f"{limits.max_bytes:,} bytes")
    kind = sniff(data)
    if kind is None:
        raise ImageError("not_an_image", "the file is not an image", received=f"first bytes {data[:12]!r}")
    if kind == "heic":
        raise ImageError("unsupported", "HEIC photos are not read", next_step="Convert the file to JPEG or PNG.")
    try:
        image = Image.open(io.BytesIO(data), formats=[kind.upper()] if kind != "jpeg" else ["JPEG", "MPO"])
        width, height = image.size
        if width * height > limits.max_pixels:
            raise _too_large(f"{width:,} × {height:,} pixels", f"{limits.max_pixels:,} pixels")
        if at_least_px is not None and kind == "jpeg":
            image.draft(None, (at_least_px, at_least_px))
        image.load()
        orientation = _orientation(image)
        rgb, repairs = _to_rgb(image, kind)
    except Image.DecompressionBombError:
        raise _too_large("more pixels than Pillow opens", f"{limits.max_pixels:,} pixels") from None
    except ImageError:
        raise
    # Pillow's format readers meet hostile bytes with any exception that Python has (struct.error, KeyError,
    # zlib.error, MemoryError …); whichever it is, it means that this one file cannot be decoded.
    except Exception as error:
        if _ends_early(data, kind):
            raise ImageError("truncated", f"the {kind.upper()} file ends before its image does",
                             received=f"{len(data):,} bytes") from None  # fmt: skip
        words = str(error) or type(error).__name__
        raise ImageError("unreadable", f"the {kind.upper()} file is damaged ({words})") from None
    if orientation != 1:
        repairs = (*repairs, f"turned upright (EXIF orientation {orientation})")
    if orientation >= 5:
        width, height = height, width
    return DecodedImage(
        pixels=upright(rgb, orientation),
        format=kind,
        width=width,
        height=height,
        orientation=orientation,
        repairs=repairs,
        unserved=_why_unserved(data, kind, image, orientation),
    )


def from_pillow(image: Image.Image) -> np.ndarray:
    """Pixels of an open Pillow image by the rules of ``decode``: uint8 ``[H, W, 3]`` RGB, upright.

    Raises: ImageError with reason ``unsupported`` for a mode without a known range.
    """
    image.load()
    return upright(_to_rgb(image, (image.format or "").lower())[0], _orientation(image))


def _too_large(received: str, limit: str) -> ImageError:
    return ImageError("too_large", f"an image may have at most {limit}", received=received)


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(EXIF_TAG, 1)
    # A damaged EXIF block says nothing about the pixels; such a photo is shown as it is stored.
    except Exception:
        return 1
    return orientation if orientation in STEPS else 1


def _to_rgb(image: Image.Image, kind: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 [H, W, 3] of any Pillow mode, and what was done in words."""
    mode = image.mode
    if mode in ("RGB", "L", "1") and "transparency" not in image.info:
        return np.asarray(image.convert("RGB")), ()
    if mode.startswith("I;16") or mode == "I":
        samples = np.asarray(image).astype(np.int64)
        if samples.min() < 0 or samples.max() > 0xFFFF:
            raise ImageError("unsupported", "32-bit samples have no known range", next_step="Convert it to 8 bits.")
        grey = (samples >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), ("16 bits a sample cut to 8",)
    if mode in ("CMYK", "YCbCr"):
        return np.asarray(image.convert("RGB")), (f"{mode} converted to RGB",)
    if mode in ("P", "PA", "LA", "RGBA", "RGB", "L", "1"):
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[..., 3:]
        if (alpha == 255).all():
            return np.ascontiguousarray(rgba[..., :3]), ()
        if kind == "gif":
            return np.where(alpha == 0, np.uint8(0), rgba[..., :3]), ("transparent areas made black",)
        return over_white(rgba), ("transparent areas made white",)
    raise ImageError("unsupported", f"pixels of type {mode} have no known range", next_step="Convert it to 8-bit RGB.")


def over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay uint8 ``[H, W, 4]`` over white: uint8 ``[H, W, 3]``, in whole numbers so that every runtime agrees."""
    wide = rgba.astype(np.int32)
    colour, alpha = wide[..., :3], wide[..., 3:]
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _ends_early(data: bytes, kind: str) -> bool:
    """Whether the file's own structure says that bytes are missing at its end."""
    if kind == "jpeg":
        return b"\xff\xd9" not in data[-64:]
    if kind == "png":
        return b"IEND" not in data[-64:]
    if kind == "gif":
        return not data.rstrip(b"\0").endswith(b";")
    if kind == "webp":
        return len(data) < 12 or struct.unpack("<I", data[4:8])[0] + 8 > len(data)
    if kind == "bmp":
        return len(data) < 26 or struct.unpack("<I", data[2:6])[0] > len(data)
    return False


def _checksums_hold(data: bytes) -> bool:
    """Whether the chunks of a PNG have the CRCs that they carry; Pillow forgives those of pixels."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body, crc = data[at + 4 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if len(crc) < 4 or zlib.crc32(body) != struct.unpack(">I", crc)[0]:
            return False
        if body[:4] == b"IEND":
            break
        at += 12 + length
    return True


def _why_unserved(data: bytes, kind: str, image: Any, orientation: int) -> str:
    if kind not in SERVED_FORMATS:
        return f"{kind.upper()} cannot be decoded inside a served graph"
    if kind == "jpeg" and image.mode == "CMYK":
        return CMYK
    if kind == "bmp":
        bits, compression = struct.unpack("<HI", data[28:34])
        if bits not in (24, 32) or compression != 0 or data[14] < 40:
            return PACKED_BMP
    if kind == "png" and data[24] < 8 and data[25] == 0 and "transparency" in image.info:
        return SHALLOW_KEYED_GREY
    if kind == "png" and not _checksums_hold(data):
        return "the PNG file has a wrong checksum, which a served graph does not forgive"
    if kind == "webp" and data[12:16] == b"VP8X" and data[20] & 0x02:
        return ANIMATED_WEBP
    if orientation != 1 and "exif" not in image.info:
        return "the orientation stands outside the EXIF block, where a served graph does not look"
    if _ends_early(data, kind):
        return f"the {kind.upper()} file lacks its end mark"
    return ""
