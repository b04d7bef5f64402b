"""How an image is held while it climbs, as pixels or as the spectrum of its colours, and how it is shaken meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

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
        shape = (size_px, size_px, 3)
        noise = [np.random.default_rng(seed).uniform(-self.noise_255, self.noise_255, shape) for seed in seeds]
        return tf.constant(128.0 + np.stack(noise), tf.float32)

    def image(self, numbers: Tensor) -> Tensor:
        """The numbers are the image."""
        return numbers

    def allowed(self, numbers: Tensor) -> Tensor:
        """Clipped to 0..255."""
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
        shape = (2, 3, size_px, size_px // 2 + 1)
        noise = [np.random.default_rng(seed).normal(0.0, self.noise, shape) for seed in seeds]
        return tf.constant(np.stack(noise), tf.float32)

    def image(self, numbers: Tensor) -> Tensor:
        """Spectrum → colour axes → RGB → sigmoid → pixels."""
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


@dataclass(frozen=True)
class Transforms:
    """Random changes that must not matter: how much each image of a batch is changed, on its own, in every step.

    What survives them is structure; what a network alone reads into single pixels does not (Olah et al. 2017,
    "transformation robustness"). All randomness comes from a seed pair, so that a run can be repeated.

    jitter: moves up to this share of the side, each way. turn_degrees: turns up to this, each way.
    scale: (least, greatest) zoom. contrast: up to this share more or less. noise_255: standard deviation.
    window: the share of the side that is shown at all, about the middle before it is moved.
    """

    jitter: float = 0.0
    turn_degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    contrast: float = 0.0
    noise_255: float = 0.0
    mirror: bool = False
    window: float = 1.0

    def window_px(self, size_px: int) -> int:
        """The side of what is shown of images of this size: a multiple of 32, which networks halve five times."""
        return min(size_px, 32 * max(1, round(self.window * size_px / 32))) if self.window < 1.0 else size_px

    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """Changed images, float32 ``[N, W, W, 3]`` about in 0..255, of images ``[N, S, S, 3]``.

        W is ``window_px(S)``. ``seed``: int32 ``[2]``.
        """
        count, size_px = tf.shape(image)[0], image.shape[1]

        def draw(stream: int, low: float, high: float, shape: Any = None) -> Tensor:
            shape = [count] if shape is None else shape
            return tf.random.stateless_uniform(shape, seed + tf.constant([0, stream]), low, high)

        window_px = self.window_px(size_px)
        moves = bool(self.jitter or self.turn_degrees or self.mirror) or self.scale != (1.0, 1.0)
        if moves or window_px < size_px:
            zoom = tf.exp(draw(1, math.log(self.scale[0]), math.log(self.scale[1] + 1e-9)))
            angle = draw(2, -math.radians(self.turn_degrees), math.radians(self.turn_degrees) + 1e-9)
            right, down = (draw(stream, -self.jitter, self.jitter + 1e-9) * size_px for stream in (3, 4))
            flip = tf.where(draw(5, 0.0, 1.0) < 0.5, -1.0, 1.0) if self.mirror else tf.ones([count])
            image = _resample(image, zoom, angle, right, down, flip, window_px)
        if self.contrast:
            mean = tf.reduce_mean(image, axis=[1, 2, 3], keepdims=True)
            factor = draw(6, 1.0 - self.contrast, 1.0 + self.contrast, [count, 1, 1, 1])
            image = mean + (image - mean) * factor
        if self.noise_255:
            image += self.noise_255 * tf.random.stateless_normal(tf.shape(image), seed + tf.constant([0, 7]))
        return image


def _resample(
    image: Tensor, zoom: Tensor, angle: Tensor, right: Tensor, down: Tensor, flip: Tensor, window_px: int
) -> Tensor:
    """Zoomed, turned and moved about the centre, bilinear; what lies outside is mirrored in. ``[N, W, W, 3]``.

    The gradient is resampled in the same way back. It is 0 where the window does not reach: TensorFlow's own would
    mirror it in there, as if the window had seen something.
    """
    size_px = image.shape[1]
    centre, centre_shown = (size_px - 1) / 2, (window_px - 1) / 2
    cosine, sine = tf.cos(angle), tf.sin(angle)
    # Output (x, y) is taken from input (a x + b y, c x + d y), both from their centres, and the moves.
    a, b, c, d = cosine * flip / zoom, -sine / zoom, sine * flip / zoom, cosine / zoom
    there = _affine(a, b, c, d, centre_shown, centre_shown, centre + right, centre + down)
    a, b, c, d = cosine * flip * zoom, sine * flip * zoom, -sine * zoom, cosine * zoom
    back = _affine(a, b, c, d, centre + right, centre + down, centre_shown, centre_shown)

    @tf.custom_gradient
    def resampled(image: Tensor) -> Any:
        def gradient(upstream: Tensor) -> Tensor:
            # An image pixel is part of zoom² shown ones.
            return _projected(upstream * tf.square(zoom)[:, None, None, None], back, size_px, "CONSTANT")

        return _projected(image, there, window_px, "REFLECT"), gradient

    return resampled(image)


def _affine(
    a: Tensor, b: Tensor, c: Tensor, d: Tensor, from_x: Tensor, from_y: Tensor, to_x: Tensor, to_y: Tensor
) -> Tensor:
    """(x, y) ↦ (a, b; c, d) · (x - from_x, y - from_y) + (to_x, to_y), as TensorFlow takes it: float32 ``[N, 8]``."""
    zeros = tf.zeros_like(a)
    return tf.stack([a, b, to_x - a * from_x - b * from_y, c, d, to_y - c * from_x - d * from_y, zeros, zeros], axis=1)


def _projected(image: Tensor, transforms: Tensor, side_px: int, outside: str) -> Tensor:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image,
        transforms=transforms,
        output_shape=[side_px, side_px],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=outside,
    )
