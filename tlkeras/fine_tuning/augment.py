"""Augmentation as Keras layers for tf.data, batch by batch.

Each layer is called with a seed and draws by stateless operations alone, so a batch depends on nothing but the run's
seed and the number of its step: a resumed run sees the same pictures as one that was never interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tlkeras.errors import unknown
from tlkeras.fine_tuning.config import AUGMENTATIONS
from tlkeras.fine_tuning.rand_augment import RandAugment, warp

Tensor = Any


@dataclass(frozen=True)
class Augmentation:
    """How strongly training photos are changed; the defaults change nothing.

    flip: half of them are mirrored. area: smallest share of the photo that a crop keeps, 0..1. aspect: how far a
    crop's width over height may be from 1, as a factor. colour: brightness, contrast and saturation change by up to
    this share. rotation_degrees: at most, either way. rand_augment: operations of RandAugment an image, of magnitude
    ``magnitude`` in 0..10. mix: share of batches whose images are mixed, one half by MixUp, the other by CutMix.
    """

    flip: bool = False
    area: float = 1.0
    aspect: float = 1.0
    colour: float = 0.0
    rotation_degrees: float = 0.0
    rand_augment: int = 0
    magnitude: float = 0.0
    mix: float = 0.0


PRESETS = {
    "off": Augmentation(),
    "light": Augmentation(flip=True, area=0.5, aspect=4 / 3, colour=0.2),
    "strong": Augmentation(
        flip=True, area=0.35, aspect=4 / 3, colour=0.2, rotation_degrees=10, rand_augment=2, magnitude=7, mix=0.5
    ),
}
# From so many training photos on the long way that strong changes ask for pays; with fewer, epochs are too short.
STRONG_FROM = 5000


def preset(name: str, image_count: int) -> str:
    """The name of a preset; for ``auto`` the one that the number of training photos speaks for.

    Raises: ConfigError for an unknown name.
    """
    if name == "auto":
        name = "strong" if image_count >= STRONG_FROM else "light"
    if name not in PRESETS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    return name


class RandomResizedCrop(keras.layers.Layer):
    """Crop, mirror, turn and resize in one interpolation (Szegedy et al. 2015, "Going Deeper with Convolutions").

    Call: float32 ``[N, H, H, 3]`` in 0..255 and an int64 ``[2]`` seed; gives ``[N, size_px, size_px, 3]``.
    """

    def __init__(self, size_px: int, augmentation: Augmentation) -> None:
        super().__init__(dtype="float32")
        self.size_px = size_px
        self.augmentation = augmentation

    def call(self, pixels: Tensor, seed: Tensor) -> Tensor:
        """See the class."""
        wanted = self.augmentation
        count = tf.shape(pixels)[0]
        draws = iter(tf.unstack(tf.random.experimental.stateless_split(seed, 6)))

        def uniform(low: float, high: float) -> Tensor:
            return tf.random.stateless_uniform([count], next(draws), low, high)

        area = uniform(wanted.area, 1.0)
        aspect = tf.exp(uniform(-math.log(wanted.aspect), math.log(wanted.aspect)))
        width, height = (tf.minimum(tf.sqrt(area * r), 1.0) for r in (aspect, 1.0 / aspect))
        column = (1.0 - width) * uniform(-0.5, 0.5)
        row = (1.0 - height) * uniform(-0.5, 0.5)
        mirrored = tf.where(uniform(0.0, 1.0) < (0.5 if wanted.flip else 0.0), -1.0, 1.0)
        angle = uniform(-1.0, 1.0) * math.radians(wanted.rotation_degrees)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        matrix = [width * cosine * mirrored, -width * sine, column, height * sine * mirrored, height * cosine, row]
        return warp(pixels, tf.stack(matrix, axis=1), self.size_px)


class ColourJitter(keras.layers.Layer):
    """Brightness, contrast and saturation, each changed by up to ``share``.

    Call: float32 ``[N, H, W, 3]`` in 0..255 and an int64 ``[2]`` seed; gives the same shape and range.
    """

    def __init__(self, share: float) -> None:
        super().__init__(dtype="float32")
        self.share = share

    def call(self, pixels: Tensor, seed: Tensor) -> Tensor:
        """See the class."""
        shape = [3, tf.shape(pixels)[0], 1, 1, 1]
        brightness, contrast, saturation = tf.unstack(
            tf.random.stateless_uniform(shape, seed, 1.0 - self.share, 1.0 + self.share)
        )
        pixels = pixels * brightness
        mean = tf.reduce_mean(pixels, axis=[1, 2, 3], keepdims=True)
        pixels = mean + (pixels - mean) * contrast
        grey = tf.image.rgb_to_grayscale(pixels)
        return tf.clip_by_value(grey + (pixels - grey) * saturation, 0.0, 255.0)


class Mix(keras.layers.Layer):
    """MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019) of each image with another of its batch, or neither.

    Call: float32 ``[N, H, W, 3]``, targets float32 ``[N, K]`` and an int64 ``[2]`` seed; gives both, mixed alike.
    ``share``: of batches that are mixed.
    """

    MIXUP_ALPHA = 0.2
    CUTMIX_ALPHA = 1.0

    def __init__(self, share: float) -> None:
        super().__init__(dtype="float32")
        self.share = share

    def call(self, pixels: Tensor, targets: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
        which = tf.random.stateless_uniform([], seeds[0])
        return tf.cond(
            which < self.share / 2,
            lambda: self._mixup(pixels, targets, seeds[1]),
            lambda: tf.cond(
                which < self.share, lambda: self._cutmix(pixels, targets, seeds[2]), lambda: (pixels, targets)
            ),
        )

    def _mixup(self, pixels: Tensor, targets: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        kept = _beta(self.MIXUP_ALPHA, [tf.shape(pixels)[0]], seed)
        return self._blend(pixels, kept[:, None, None, None]), self._blend(targets, kept[:, None])

    def _cutmix(self, pixels: Tensor, targets: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        first, second = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        count, side = tf.shape(pixels)[0], tf.cast(tf.shape(pixels)[1], tf.float32)
        half = side * tf.sqrt(1.0 - _beta(self.CUTMIX_ALPHA, [count], first)) / 2
        centre = tf.random.stateless_uniform([2, count], second, 0.0, side)
        line = tf.range(side) + 0.5
        inside = tf.abs(line[None, None] - centre[..., None]) < half[None, :, None]  # [2, N, side]
        patch = tf.cast(inside[0][:, :, None] & inside[1][:, None, :], tf.float32)
        kept = 1.0 - tf.reduce_mean(patch, axis=[1, 2])
        return self._blend(pixels, 1.0 - patch[..., None]), self._blend(targets, kept[:, None])

    def _blend(self, rows: Tensor, kept: Tensor) -> Tensor:
        # The batch is in random order already, so the neighbour is as good as any.
        return kept * rows + (1.0 - kept) * tf.roll(rows, 1, axis=0)


class Augment(keras.layers.Layer):
    """All that an ``Augmentation`` asks for, in order.

    Call: pixels ``[N, H, H, 3]`` in 0..255, targets float32 ``[N, K]`` and an int64 ``[2]`` seed; gives float32
    pixels ``[N, size_px, size_px, 3]`` in 0..255, and targets.
    """

    def __init__(self, size_px: int, augmentation: Augmentation) -> None:
        super().__init__(dtype="float32")
        self.crop = RandomResizedCrop(size_px, augmentation)
        self.steps: list[Any] = []
        if augmentation.rand_augment:
            self.steps.append(RandAugment(augmentation.rand_augment, augmentation.magnitude))
        if augmentation.colour:
            self.steps.append(ColourJitter(augmentation.colour))
        self.mix = Mix(augmentation.mix)

    def call(self, pixels: Tensor, targets: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2 + len(self.steps)))
        pixels = self.crop(tf.cast(pixels, tf.float32), seeds[0])
        for layer, own in zip(self.steps, seeds[2:], strict=True):
            pixels = layer(pixels, own)
        return self.mix(pixels, targets, seeds[1])


def _beta(alpha: float, shape: Any, seed: Tensor) -> Tensor:
    """Beta(alpha, alpha) variables as a quotient of gamma ones."""
    one, other = tf.unstack(tf.random.stateless_gamma([2, *shape], seed, alpha))
    # Both may underflow for a small alpha.
    return (one + 1e-30) / (one + other + 2e-30)
