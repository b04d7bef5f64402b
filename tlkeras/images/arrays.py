"""Images that are in memory already: NumPy arrays, Pillow images and figures, as pixels and as PNG and GIF files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tlkeras.errors import ConfigError
from tlkeras.images.decode import decode, from_pillow

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def as_pixels(image: Any) -> np.ndarray:
    """An array or Pillow image as RGB pixels: uint8 or float32 ``[H, W, 3]`` in 0..255.

    ``image``: Pillow image of any mode, or numbers of shape ``[H, W]``, ``[H, W, 1]`` or ``[H, W, 3]``.

    Raises: ConfigError for another shape, and for pixels outside 0..255 or that look scaled to 0..1.
    """
    if isinstance(image, Image.Image):
        return from_pillow(image)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape or pixels.dtype.kind not in "uif":
        raise ConfigError(
            "an image array must be numbers of shape [H, W, 3] in 0..255",
            received=f"{pixels.dtype} {list(np.shape(image))}",
        )
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        # Scaling twice costs accuracy silently and is the commonest mistake with image networks.
        if not (low >= 0 and high <= 255) or (pixels.dtype.kind == "f" and 0 < high <= 1):
            raise ConfigError(
                "pixels must lie in 0..255, unscaled: the network scales them itself",
                received=f"{low:g}..{high:g}",
                next_step="Multiply by 255 if they were divided before.",
            )
        pixels = pixels.astype(np.float32)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[-1] == 1 else pixels


def as_uint8(image: Any) -> np.ndarray:
    """An array or Pillow image (see ``as_pixels``) as uint8 ``[H, W, 3]`` in 0..255.

    Raises: ConfigError as ``as_pixels`` does, and for numbers that are not whole.
    """
    pixels = as_pixels(image)
    if pixels.dtype == np.uint8:
        return pixels
    rounded = np.rint(pixels)
    if not np.array_equal(rounded, pixels):
        raise ConfigError("image arrays must hold whole numbers in 0..255 here", next_step="Round them to uint8.")
    return rounded.astype(np.uint8)


def png_bytes(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 ``[H, W, 3]``; nothing is lost."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def through_png(images: np.ndarray) -> np.ndarray:
    """Images uint8 ``[N, H, W, 3]`` as they come back from PNG files through the one decoder."""
    return np.stack([decode(png_bytes(pixels)).pixels for pixels in images])


def gif_bytes(frames: np.ndarray, *, seconds: float) -> bytes:
    """An endless animated GIF of uint8 ``[F, H, W, 3]`` that takes ``seconds``, the last frame twice as long again."""
    pictures = [Image.fromarray(frame) for frame in frames]
    each = round(1000 * seconds / (len(pictures) + 2))
    buffer = io.BytesIO()
    first, *others = pictures
    durations = [each] * len(others) + [3 * each]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


def figure_bytes(figure: Figure, *, dots_per_inch: int = 110) -> bytes:
    """A PNG file of a Matplotlib figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch)
    return buffer.getvalue()
