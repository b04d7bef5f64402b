"""The eight EXIF orientations as three elementary steps, so that NumPy and TensorFlow turn pixels alike."""

from __future__ import annotations

import numpy as np

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
EXIF_TAG = 0x0112


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
