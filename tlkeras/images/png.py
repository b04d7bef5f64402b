"""Pixels as PNG files: what is shown, and what an image is worth once it has been saved."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tlkeras.images.decode import decode

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
