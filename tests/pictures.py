"""Small pictures for tests, made here."""

import io

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth colourful picture with noise: no symmetry, so that a wrong turn shows."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = smooth + random.integers(-12, 13, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(image: Image.Image, kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, kind, exif=exif)


def tinted(tint: tuple[int, int, int], seed: int) -> Image.Image:
    """A noisy 48 × 40 picture of one colour, a little different for every seed."""
    random = np.random.default_rng([seed, *tint])
    around = np.array(tint) + random.normal(0, 12, 3)
    pixels = around + random.normal(0, 20, (40, 48, 1)) + random.normal(0, 8, (40, 48, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def swapping_profile() -> bytes:
    """An ICC profile that calls red green and green red: whoever applies it shows other colours."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"swap", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"swap", b"gXYZ", 1)
