"""Common corruptions of photos at five severities, on pixels as the network takes them.

After Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations".
The kinds are theirs, and rotation beside them; the strengths below are our own scale for 224 px images, and lengths
in pixels grow with the image.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import scipy.ndimage
from PIL import Image

from tlkeras.errors import ConfigError, unknown

SEVERITIES = (1, 2, 3, 4, 5)
_REFERENCE_PX = 224

# A corruption: (uint8 [H, W, 3], strength, random numbers) -> float [H, W, 3], cut to 0..255 afterwards.
_Corrupt = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def _blur(pixels: np.ndarray, sigma_px: float, random: np.random.Generator) -> np.ndarray:
    del random
    # Below half the size a blur that shrinks with the image would be none at all.
    sigma = sigma_px * max(pixels.shape[0] / _REFERENCE_PX, 0.5)
    return scipy.ndimage.gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0), mode="nearest")


def _noise(pixels: np.ndarray, deviation_255: float, random: np.random.Generator) -> np.ndarray:
    return pixels + deviation_255 * random.standard_normal(pixels.shape, np.float32)


def _jpeg(pixels: np.ndarray, quality: float, random: np.random.Generator) -> np.ndarray:
    del random
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _brightness(pixels: np.ndarray, shift_255: float, random: np.random.Generator) -> np.ndarray:
    # Brighter or darker with equal chance: both happen to photos.
    return pixels + shift_255 * random.choice([-1.0, 1.0])


def _contrast(pixels: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    del random
    mean = pixels.mean(axis=(0, 1), dtype=np.float32)
    return mean + factor * (pixels - mean)


def _rotation(pixels: np.ndarray, degrees: float, random: np.random.Generator) -> np.ndarray:
    # The border repeats its mirror image, so that no empty corner is what is seen.
    angle = degrees * random.choice([-1.0, 1.0])
    return scipy.ndimage.rotate(pixels.astype(np.float32), angle, reshape=False, order=1, mode="mirror")


# Name -> the function, and its strength at severities 1 to 5.
CORRUPTIONS: dict[str, tuple[_Corrupt, tuple[float, ...]]] = {
    "blur": (_blur, (1.0, 2.0, 3.0, 4.0, 6.0)),
    "noise": (_noise, (10.0, 20.0, 30.0, 45.0, 65.0)),
    "jpeg": (_jpeg, (40.0, 25.0, 15.0, 10.0, 5.0)),
    "brightness": (_brightness, (20.0, 40.0, 60.0, 85.0, 110.0)),
    "contrast": (_contrast, (0.6, 0.45, 0.3, 0.2, 0.1)),
    "rotation": (_rotation, (5.0, 10.0, 20.0, 35.0, 60.0)),
}


def corrupt(pixels: np.ndarray, name: str, severity: int, *, seed: int = 0) -> np.ndarray:
    """Corrupt fitted images uint8 ``[N, S, S, 3]``; the same seed gives the same images.

    ``name``: one of ``CORRUPTIONS``. ``severity``: 1 (weak) to 5 (strong).

    Raises: ConfigError for another name or severity.
    """
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise ConfigError("a severity lies in 1..5", received=severity)
    function, strengths = CORRUPTIONS[name]
    out = np.empty_like(pixels)
    for index, image in enumerate(pixels):
        # Not seeded by the severity: each image keeps its noise and its direction, so that severities compare.
        random = np.random.default_rng([seed, index])
        out[index] = np.rint(np.clip(function(image, strengths[severity - 1], random), 0, 255)).astype(np.uint8)
    return out
