"""How an image is held while it is improved: as pixels, or as the spectrum of decorrelated colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Tensor = Any

# Square root of the colour correlation of ImageNet photos, channels red, green, blue by independent axes: light,
# blue-yellow, green-magenta (Olah et al. 2017). The first axis carries most of what differs in photos.
_COLOUR_SQRT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
_COLOUR = _COLOUR_SQRT / np.linalg.norm(_COLOUR_SQRT, axis=0).max()


class Parameterisation(Protocol):
    """Numbers that stand for images."""

    def start(self, seeds: Sequence[int], size_px: int) -> Tensor:
        """Numbers of noise images, one for each seed and always the same for it."""

    def image(self, numbers: Tensor) -> Tensor:
        """The images, float32 ``[N, S, S, 3]`` in 0..255; differentiable."""

    def allowed(self, numbers: Tensor) -> Tensor:
        """The nearest numbers that stand for an image."""


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves, in 0..255, clipped after each step: the plain way.

    noise_255: the first image is grey 128 plus uniform noise of this amplitude.
    """

    noise_255: float = 20.0

    def start(self, seeds: Sequence[int], size_px: int) -> Tensor:
        """Grey images with noise, float32 ``[N, S, S, 3]``."""
        import tensorflow as tf

        shape = (size_px, size_px, 3)
        noise = [np.random.default_rng(seed).uniform(-self.noise_255, self.noise_255, shape) for seed in seeds]
        return tf.constant(128.0 + np.stack(noise), tf.float32)

    def image(self, numbers: Tensor) -> Tensor:
        """The numbers are the image."""
        return numbers

    def allowed(self, numbers: Tensor) -> Tensor:
        """Clipped to 0..255."""
        import tensorflow as tf

        return tf.clip_by_value(numbers, 0.0, 255.0)


@dataclass(frozen=True)
class Fourier:
    """The spectrum of each colour axis, scaled as photos are: amplitude falls as 1 / frequency (Olah et al. 2017).

    decay: the power of the frequency. contrast: how strongly the numbers are taken.
    low_255, high_255: the range of pixels, which a sigmoid never leaves.
    """

    decay: float = 1.0
    contrast: float = 1.0
    noise: float = 0.01
    low_255: float = 4.0
    high_255: float = 251.0

    def start(self, seeds: Sequence[int], size_px: int) -> Tensor:
        """Weak coloured noise: real and imaginary parts, float32 ``[N, 2, 3, S, S // 2 + 1]``."""
        import tensorflow as tf

        shape = (2, 3, size_px, size_px // 2 + 1)
        noise = [np.random.default_rng(seed).normal(0.0, self.noise, shape) for seed in seeds]
        return tf.constant(np.stack(noise), tf.float32)

    def image(self, numbers: Tensor) -> Tensor:
        """Spectrum → colour axes → RGB → sigmoid → pixels."""
        import tensorflow as tf

        size_px = numbers.shape[3]
        # Unstacked and multiplied as matrices: the ways back of slices and of einsum cost three times as much.
        real, imaginary = tf.unstack(numbers * tf.constant(spectrum_scale(size_px, self.decay)), axis=1)
        axes = tf.signal.irfft2d(tf.complex(real, imaginary), [size_px, size_px])
        rows = tf.matmul(tf.constant(_COLOUR * self.contrast), tf.reshape(axes, [-1, 3, size_px * size_px]))
        colours = tf.transpose(tf.reshape(rows, [-1, 3, size_px, size_px]), [0, 2, 3, 1])
        return self.low_255 + (self.high_255 - self.low_255) * tf.sigmoid(colours)

    def allowed(self, numbers: Tensor) -> Tensor:
        """Every spectrum stands for an image."""
        return numbers


def spectrum_scale(size_px: int, decay: float) -> np.ndarray:
    """The weight of each frequency, float32 ``[S, S // 2 + 1]``; the lowest is as strong as one wave per image.

    White noise of size 1 becomes an image of size about 1, whatever ``size_px`` is.
    """
    rows = np.fft.fftfreq(size_px)[:, None]
    columns = np.fft.rfftfreq(size_px)[None, :]
    frequency = np.sqrt(rows**2 + columns**2)
    scale = 1.0 / np.maximum(frequency, 1.0 / size_px) ** decay
    # irfft2 divides by S²; a spectrum of white noise 1 with these weights then has this standard deviation.
    size = np.sqrt((scale**2).sum() * 2) / size_px**2
    return (scale / size).astype(np.float32)
