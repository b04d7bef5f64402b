"""Training photos in batches: their order, and how they are changed.

Ours, because Keras' augmentation layers draw from a generator that moves on with each call. Here order and changes
depend on nothing but the run's seed and the number of the step, by stateless operations: a resumed run sees the same
pictures as one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any

# Photos are kept a little larger than the network's input, so that a crop is not blown up.
MARGIN = 8 / 7


@dataclass(frozen=True)
class Augmentation:
    """How much training photos are changed; the defaults change nothing.

    flip: half of them are mirrored. area: smallest share of the photo that a crop keeps, 0..1. aspect: how far a
    crop's width over height may be from 1, as a factor. colour: brightness, contrast and saturation change by up to
    this share.
    """

    flip: bool = False
    area: float = 1.0
    aspect: float = 1.0
    colour: float = 0.0


PRESETS = {"light": Augmentation(flip=True, area=0.5, aspect=4 / 3, colour=0.2), "off": Augmentation()}


def cropped(pixels: Tensor, seed: Tensor, size_px: int, wanted: Augmentation) -> Tensor:
    """Crop, mirror and resize in one interpolation (Szegedy et al. 2015, "Going Deeper with Convolutions").

    ``pixels``: float32 ``[N, H, H, 3]`` in 0..255. ``seed``: int64 ``[2]``. Returns ``[N, size_px, size_px, 3]``.
    """
    count, side = tf.shape(pixels)[0], tf.cast(tf.shape(pixels)[1], tf.float32)
    draws = iter(tf.unstack(tf.random.experimental.stateless_split(seed, 6)))

    def uniform(low: float, high: float) -> Tensor:
        return tf.random.stateless_uniform([count], next(draws), low, high)

    area = uniform(wanted.area, 1.0)
    aspect = tf.exp(uniform(-math.log(wanted.aspect), math.log(wanted.aspect)))
    width, height = (tf.minimum(tf.sqrt(area * r), 1.0) for r in (aspect, 1.0 / aspect))
    column = (1.0 - width) * uniform(-0.5, 0.5)
    row = (1.0 - height) * uniform(-0.5, 0.5)
    mirrored = tf.where(uniform(0.0, 1.0) < (0.5 if wanted.flip else 0.0), -1.0, 1.0)

    def offset(along: Tensor, centre: Tensor) -> Tensor:
        # From pixel numbers to places in −½..½ and back: number n has its centre at (n + ½) / side − ½.
        return ((0.5 / size_px - 0.5) * along + centre + 0.5) * side - 0.5

    zero, scale = tf.zeros_like(area), side / size_px
    across = [width * mirrored * scale, zero, offset(width * mirrored, column)]
    down = [zero, height * scale, offset(height, row)]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=tf.stack([*across, *down, zero, zero], axis=1),
        output_shape=[size_px, size_px],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def tinted(pixels: Tensor, seed: Tensor, share: float) -> Tensor:
    """Brightness, contrast and saturation of float32 ``[N, H, W, 3]`` in 0..255, each changed by up to ``share``."""
    shape = [3, tf.shape(pixels)[0], 1, 1, 1]
    brightness, contrast, saturation = tf.unstack(tf.random.stateless_uniform(shape, seed, 1.0 - share, 1.0 + share))
    pixels = pixels * brightness
    mean = tf.reduce_mean(pixels, axis=[1, 2, 3], keepdims=True)
    pixels = mean + (pixels - mean) * contrast
    grey = tf.image.rgb_to_grayscale(pixels)
    return tf.clip_by_value(grey + (pixels - grey) * saturation, 0.0, 255.0)


def augmented(pixels: Tensor, seed: Tensor, size_px: int, wanted: Augmentation) -> Tensor:
    """All that an ``Augmentation`` asks for, in order; pixels and seed as for ``cropped``."""
    # Three, of which one is spare: the figures of docs/fine-tuning.md were measured with these draws.
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    pixels = cropped(tf.cast(pixels, tf.float32), seeds[0], size_px, wanted)
    return tinted(pixels, seeds[2], wanted.colour) if wanted.colour else pixels


def kept_side_px(size_px: int, augmentation: Augmentation) -> int:
    """The side of the squares that ``Batches`` wants for an input of ``size_px``."""
    return size_px if augmentation == Augmentation() else round(size_px * MARGIN)


@dataclass(frozen=True)
class Batches:
    """Training photos in batches that depend on the seed and the number of the step alone.

    squares: uint8 ``[N, H, H, 3]``; labels: int ``[N]``. size_px: side of the pictures that are given.
    """

    squares: np.ndarray
    labels: np.ndarray
    class_count: int
    size_px: int
    batch_size: int
    augmentation: Augmentation
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every photo is seen once; the last batch is filled up with some of the first."""
        return math.ceil(len(self.labels) / self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Photos of an epoch, int64 ``[steps_per_epoch, batch_size]``."""
        shuffled = np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))
        return np.resize(shuffled, (self.steps_per_epoch, self.batch_size))

    def from_step(self, step: int, stop: int) -> Iterator[tuple[Any, Any]]:
        """Batches of the steps ``step`` to ``stop - 1``, counted through all epochs.

        Each is float32 ``[batch_size, size_px, size_px, 3]`` in 0..255 and targets float32 ``[batch_size, K]``.
        """
        side = self.squares.shape[1]

        def rows() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
            order = np.zeros((0, 0), np.int64)
            for number in range(step, stop):
                epoch, within = divmod(number, self.steps_per_epoch)
                if number == step or within == 0:
                    order = self.order(epoch)
                yield number, self.squares[order[within]], self.labels[order[within]].astype(np.int32)

        def changed(number: Any, pixels: Any, labels: Any) -> tuple[Any, Any]:
            seed = tf.stack([tf.constant(self.seed, tf.int64), number])
            return augmented(pixels, seed, self.size_px, self.augmentation), tf.one_hot(labels, self.class_count)

        dataset = tf.data.Dataset.from_generator(
            rows,
            output_signature=(
                tf.TensorSpec([], tf.int64),
                tf.TensorSpec([self.batch_size, side, side, 3], tf.uint8),
                tf.TensorSpec([self.batch_size], tf.int32),
            ),
        )
        dataset = dataset.map(changed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return iter(dataset.prefetch(2))
