"""The one resize rule, antialiased bilinear, and the turns of EXIF, for NumPy, TensorFlow and ONNX alike.

A square of ``size_px`` is filled from an image of any size by one of three fits:

- ``crop``: the largest centred square, scaled. Nothing is distorted, the long ends are lost.
- ``stretch``: the whole image, both sides scaled on their own. Nothing is lost, shapes are distorted.
- ``pad``: the whole image, scaled alike, on a grey ground. Nothing is lost or distorted, pixels are wasted.

Resizing is separable, so each axis is a matrix ``[size_px, n]``. The weight of input sample i in output
sample o is a triangle as wide as the scale: ``relu(1 − |i + ½ − c_o| / max(scale, 1))``, normalised per row,
with ``c_o = lo + (o − first + ½)·scale`` and ``scale = (hi − lo) / count``. It equals TensorFlow's
``ScaleAndTranslate`` and Pillow's ``BILINEAR`` up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.errors import ConfigError, unknown

FITS = ("crop", "stretch", "pad")
# Middle grey: about zero after every backbone's preprocessing, as the padding inside a network is.
PAD_VALUE_255 = 128.0
_RULE = Image.Resampling.BILINEAR
# Rows of so many pixels at a time become 32-bit numbers: a large picture is never held in them.
_BLOCK_PIXELS = 2**20
# Orientation (EXIF 2.3, tag 0x0112) -> (swap rows and columns, then flip top-bottom, then flip left-right).
STEPS: dict[int, tuple[bool, bool, bool]] = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def check_fit(fit: str, size_px: int) -> None:
    """Raise ConfigError unless ``fit`` is one of ``FITS`` and ``size_px`` is a sensible side length."""
    if fit not in FITS:
        raise unknown("fit", fit, FITS)
    if not 8 <= size_px <= 4096:
        raise ConfigError("size_px must lie in 8..4096", received=size_px)


def axis(n: Any, shorter: Any, longer: Any, size_px: int, fit: str, maximum: Callable = max) -> tuple[Any, ...]:
    """How one axis of an image is laid onto one axis of the square.

    ``n``, ``shorter`` and ``longer`` are side lengths in pixels: Python integers, or int32 tensors together
    with ``maximum=tf.maximum`` (only arithmetic is used, so the rule stands here once for both). Returns
    ``(lo, hi, first, count)``: input interval ``[lo, hi)`` goes to the ``count`` output samples from ``first``.
    """
    if fit == "crop":
        lo = (n - shorter) / 2
        return lo, lo + shorter / 1, 0, size_px
    if fit == "stretch":
        return n * 0, n, 0, size_px
    # Rounded half up in whole numbers, so that no runtime rounds otherwise.
    count = maximum((2 * n * size_px + longer) // (2 * longer), 1)
    return n * 0, n, (size_px - count) // 2, count


def fit_to_square(pixels: np.ndarray, size_px: int, fit: str) -> np.ndarray:
    """Fit one image to a square by the rule above, by Pillow's own resize of single precision.

    ``pixels``: uint8 or float ``[H, W, 3]`` in 0..255. Returns float32 ``[size_px, size_px, 3]`` in 0..255.
    Pillow leaves the interpreter to other threads meanwhile, and a large photo is widened some rows at a time.

    Raises: ConfigError for an unknown fit or size.
    """
    check_fit(fit, size_px)
    height, width = pixels.shape[:2]
    shorter, longer = min(height, width), max(height, width)
    top, bottom, first_row, rows = axis(height, shorter, longer, size_px, fit)
    left, right, first_column, columns = axis(width, shorter, longer, size_px, fit)
    at_a_time = max(1, _BLOCK_PIXELS // width)
    bands, box = _bands(pixels) if height <= at_a_time else None, (left, top, right, bottom)
    if bands is None:
        bands, box = [Image.new("F", (columns, height)) for _ in range(3)], (0, top, columns, bottom)
        for start in range(0, height, at_a_time):
            for band, wide in zip(bands, _bands(pixels[start : start + at_a_time]), strict=True):
                band.paste(wide.resize((columns, wide.height), _RULE, box=(left, 0, right, wide.height)), (0, start))
    square = np.full((size_px, size_px, 3), PAD_VALUE_255, np.float32)
    inside = square[first_row : first_row + rows, first_column : first_column + columns]
    for channel, band in enumerate(bands):
        inside[..., channel] = np.asarray(band.resize((columns, rows), _RULE, box=box))
    return square


def _bands(pixels: np.ndarray) -> list[Image.Image]:
    """The three colours as Pillow images of 32-bit numbers."""
    if pixels.dtype == np.uint8:
        return [band.convert("F") for band in Image.fromarray(pixels).split()]
    return [Image.fromarray(np.ascontiguousarray(pixels[..., channel], np.float32)) for channel in range(3)]


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as their EXIF orientation asks.

    ``pixels`` is ``[H, W, C]`` of any dtype; the result is ``[H, W, C]``, or ``[W, H, C]`` for orientations
    5 to 8. An orientation outside 1..8 means 1, as in every viewer.
    """
    swap, flip_rows, flip_columns = STEPS.get(orientation, STEPS[1])
    if swap:
        pixels = pixels.transpose(1, 0, 2)
    if flip_rows:
        pixels = pixels[::-1]
    if flip_columns:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
