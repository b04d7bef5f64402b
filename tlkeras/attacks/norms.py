"""Distances between images, the balls around them, and rounding to 8 bits that stays inside.

Everything is in pixel units: an epsilon of 4 is 4 of 255, and the L2 norm of a change is the root of the sum of
its squares over all pixels and channels of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras.errors import ConfigError, unknown

Tensor = Any
NORMS = ("linf", "l2")
USUAL_EPSILON_255 = {"linf": 4.0, "l2": 765.0}
# With so much any network that gives a gradient is fooled.
LARGE_EPSILON_255 = {"linf": 16.0, "l2": 1530.0}
_BISECTIONS = 14
# Rounding in float32 must not count as leaving the ball.
_SLACK = 1e-3


def check_norm(norm: str, epsilon_255: float) -> None:
    """Raise ConfigError unless ``norm`` is one of ``NORMS`` and the budget is a positive number of pixel units."""
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if not 0 < epsilon_255 < float("inf"):
        raise ConfigError("epsilon is in pixel units, above 0", received=epsilon_255)
    if norm == "linf" and epsilon_255 > 255:
        raise ConfigError("an L∞ epsilon is at most 255, the whole range of a pixel", received=epsilon_255)


def per_image(values: Tensor) -> Tensor:
    """``[N]`` as ``[N, 1, 1, 1]``, to go with pixels."""
    return tf.reshape(values, [-1, 1, 1, 1])


def lengths(change: Tensor, norm: str) -> Tensor:
    """The norm of each change, ``[N]`` of ``[N, H, W, 3]``; ``norm`` "linf", "l2", or "l1" as their dual."""
    if norm == "linf":
        return tf.reduce_max(tf.abs(change), axis=[1, 2, 3])
    if norm == "l1":
        return tf.reduce_sum(tf.abs(change), axis=[1, 2, 3])
    return tf.sqrt(tf.reduce_sum(tf.square(change), axis=[1, 2, 3]))


def unit_step(direction: Tensor, norm: str) -> Tensor:
    """The change of norm 1 that follows ``direction`` furthest: its sign for L∞, its direction for L2."""
    if norm == "linf":
        return tf.sign(direction)
    # Gradients far below 1 are no zero gradients: scale by the largest entry first, so that squares do not vanish.
    scaled = direction / per_image(tf.maximum(lengths(direction, "linf"), 1e-30))
    return scaled / per_image(tf.maximum(lengths(scaled, "l2"), 1e-30))


def project(pixels: Tensor, original: Tensor, norm: str, epsilon_255: float) -> Tensor:
    """The nearest pixels inside the ball of radius ``epsilon_255``, which may be infinite, and inside 0..255."""
    if np.isfinite(epsilon_255) and norm == "linf":
        pixels = tf.clip_by_value(pixels, original - epsilon_255, original + epsilon_255)
    elif np.isfinite(epsilon_255):
        change = pixels - original
        length = per_image(lengths(change, "l2"))
        pixels = original + change * tf.minimum(1.0, epsilon_255 / tf.maximum(length, 1e-12))
    return tf.clip_by_value(pixels, 0.0, 255.0)


def random_change(random: np.random.Generator, shape: tuple[int, ...], norm: str, epsilon_255: float) -> np.ndarray:
    """A change drawn from the ball, float32 of ``shape``: uniform for L∞; for L2 of uniform direction and length."""
    if norm == "linf":
        return random.uniform(-epsilon_255, epsilon_255, shape).astype(np.float32)
    direction = random.standard_normal(shape, np.float32)
    return direction * np.float32(epsilon_255 * random.uniform() / np.linalg.norm(direction))


def quantise(pixels: np.ndarray, original: np.ndarray, norm: str, epsilon_255: float) -> np.ndarray:
    """Round float pixels to uint8 without leaving the ball around ``original`` (uint8), both ``[N, H, W, 3]``.

    In L∞ the change is rounded and cut to the whole numbers within epsilon, so that an epsilon below 1 leaves the
    original. In L2 the change is scaled before it is rounded, as far up as the ball allows: these are the whole
    numbers that follow the change best for their length, where plain rounding would lose what is below ½.
    """
    change = pixels.astype(np.float32) - original
    if not np.isfinite(epsilon_255):
        return _rounded(original, change)
    if norm == "linf":
        whole = np.floor(epsilon_255 + 1e-6)
        return _rounded(original, np.clip(np.rint(change), -whole, whole))
    out = np.empty_like(original)
    for index, (one, start) in enumerate(zip(change, original, strict=True)):

        def fits(scale: float, one: np.ndarray = one, start: np.ndarray = start) -> bool:
            return float(np.linalg.norm(_rounded(start, scale * one).astype(np.float32) - start)) <= epsilon_255

        out[index] = _rounded(start, largest(fits, 4.0) * one)
    return out


def largest(holds: Callable[[float], bool], upper: float) -> float:
    """The largest number in 0..``upper`` for which ``holds`` is true, by bisection; 0 is taken to hold."""
    if holds(upper):
        return upper
    low, high = 0.0, upper
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _rounded(original: np.ndarray, change: np.ndarray) -> np.ndarray:
    return np.clip(original + np.rint(change), 0, 255).astype(np.uint8)


def distances(adversarial: np.ndarray, original: np.ndarray) -> dict[str, np.ndarray]:
    """L∞ and L2 in pixel units and L0 in pixels (changed in any channel), each ``[N]``, of uint8 ``[N, H, W, 3]``."""
    change = adversarial.astype(np.float32) - original
    return {
        "linf_255": np.abs(change).max(axis=(1, 2, 3)),
        "l2_255": np.sqrt(np.square(change, dtype=np.float64).sum(axis=(1, 2, 3))).astype(np.float32),
        "l0_pixels": (change != 0).any(axis=3).sum(axis=(1, 2)),
    }


def inside(adversarial: np.ndarray, original: np.ndarray, norm: str, epsilon_255: float) -> np.ndarray:
    """Whether each adversarial image lies in the ball around its original, bool ``[N]``."""
    return distances(adversarial, original)[f"{norm}_255"] <= epsilon_255 + _SLACK
