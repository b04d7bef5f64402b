"""The order of photos in training, and the batches that tf.data augments ahead of the steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras.fine_tuning.augment import Augment, Augmentation

# Photos are kept a little larger than the network's input, so that a crop is not blown up.
MARGIN = 8 / 7


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
        augment = Augment(self.size_px, self.augmentation)
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
            return augment(pixels, tf.one_hot(labels, self.class_count), seed)

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
