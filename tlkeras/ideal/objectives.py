"""What an ideal image is to maximise: values that can be added and weighted.

    >>> objective = ClassLogit(340) - 0.5 * TotalVariation()

An objective gives one number for each image of a batch, from what the network shows for it.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras.backbones import application
from tlkeras.backbones.layers import LayerRow, layer_rows

Tensor = Any


@dataclass(frozen=True)
class Seen:
    """What there is to judge an image by, all float32 tensors.

    image: ``[N, S, S, 3]`` in 0..255, as it is; ``logits``: ``[N, K]`` of its transformed version.
    classes: int32 ``[N]``, what each image is to become.
    layers: by name, the output ``[N, H, W, C]`` of inner layers for the transformed version.
    """

    image: Tensor
    logits: Tensor
    classes: Tensor
    layers: Mapping[str, Tensor]


class Objective(abc.ABC):
    """A number for each image, ``[N]``, the higher the better."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The inner layers that it looks at."""
        return ()

    @abc.abstractmethod
    def __call__(self, seen: Seen) -> Tensor:
        """The value of each image, float32 ``[N]``."""

    def __add__(self, other: Objective) -> Objective:
        return Sum(((1.0, self), (1.0, other)))

    def __sub__(self, other: Objective) -> Objective:
        return Sum(((1.0, self), (-1.0, other)))

    def __mul__(self, weight: float) -> Objective:
        return Sum(((float(weight), self),))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Sum(Objective):
    """Objectives, each times a number, added up."""

    parts: tuple[tuple[float, Objective], ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Those of its parts."""
        return tuple(dict.fromkeys(name for _, part in self.parts for name in part.layers))

    def __call__(self, seen: Seen) -> Tensor:
        """The weighted values of its parts, added up."""
        first, *others = (weight * part(seen) for weight, part in self.parts)
        return sum(others, first)


@dataclass(frozen=True)
class ClassLogit(Objective):
    """The logit of a class (Simonyan et al. 2014); without an index, of the class that each image is to become."""

    index: int | None = None

    def __call__(self, seen: Seen) -> Tensor:
        """The logits of the classes, ``[N]``."""
        return _of_class(seen.logits, seen.classes, self.index)


@dataclass(frozen=True)
class ClassLogProbability(Objective):
    """The logarithm of a class's probability: it grows by making the other classes less likely, too."""

    index: int | None = None

    def __call__(self, seen: Seen) -> Tensor:
        """The logarithms, ``[N]``, each at most 0."""
        return _of_class(tf.nn.log_softmax(seen.logits), seen.classes, self.index)


@dataclass(frozen=True)
class OfLayer(Objective):
    """What looks at the output of one inner layer."""

    layer: str

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer,)


@dataclass(frozen=True)
class Channel(OfLayer):
    """The mean of one channel of a layer over its whole map (Olah et al. 2017)."""

    channel: int

    def __call__(self, seen: Seen) -> Tensor:
        """The means, ``[N]``."""
        return tf.reduce_mean(seen.layers[self.layer][..., self.channel], axis=[1, 2])


@dataclass(frozen=True)
class LayerNorm(OfLayer):
    """The mean square of a whole layer: whatever it sees already, more of it (Mordvintsev et al. 2015, DeepDream)."""

    def __call__(self, seen: Seen) -> Tensor:
        """The mean squares, ``[N]``."""
        return tf.reduce_mean(tf.square(seen.layers[self.layer]), axis=[1, 2, 3])


@dataclass(frozen=True)
class TotalVariation(Objective):
    """Mean absolute difference of neighbouring pixels, in units of the whole range: 0 flat, noise about 0.3 each way.

    To be subtracted (Mahendran and Vedaldi 2015).
    """

    def __call__(self, seen: Seen) -> Tensor:
        """The variations, ``[N]``."""
        image = tf.convert_to_tensor(seen.image) / 255.0
        # Split, because its way back is a mere concatenation; that of slices takes four times as long.
        changes = [tf.split(image, [1, -1], axis)[1] - tf.split(image, [-1, 1], axis)[0] for axis in (1, 2)]
        down, right = (tf.reduce_mean(tf.abs(change), axis=[1, 2, 3]) for change in changes)
        return down + right


@dataclass(frozen=True, eq=False)
class StrangeStatistics(Objective):
    """How far the channels of a network are from the mean and spread that they had over the training photos.

    Batch normalisation remembers both, so a network knows what photos look like from the inside (Yin et al.
    2020, DeepInversion; there over a batch, here for each image on its own, so that an image does not depend on
    its neighbours). To be subtracted; see :func:`strange_statistics`.

    names: layers; means, spreads: of each one's output over the training photos, float32 ``[C]``.
    """

    names: tuple[str, ...]
    means: tuple[Any, ...]
    spreads: tuple[Any, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers."""
        return self.names

    def __call__(self, seen: Seen) -> Tensor:
        """Mean square distances, in units of the mean square spread, averaged over layers, ``[N]``."""
        offs, squares = [], []
        for name, mean in zip(self.names, self.means, strict=True):
            # About the known mean, so that one pass over the maps gives both moments without cancellation.
            centred = seen.layers[name] - mean
            offs.append(tf.reduce_mean(centred, axis=[1, 2]))
            squares.append(tf.reduce_mean(tf.square(centred), axis=[1, 2]))
        # All layers' channels side by side: with one image the many small operations would take longer than the sums.
        off, square = tf.concat(offs, axis=1), tf.concat(squares, axis=1)
        variance = tf.nn.relu(square - tf.square(off))
        distance = tf.square(off) + tf.square(tf.sqrt(variance + 1e-6) - np.concatenate(self.spreads))
        shares = [np.full(len(spread), 1.0 / (len(spread) * (np.mean(spread**2) + 1e-6))) for spread in self.spreads]
        return tf.linalg.matvec(distance, np.concatenate(shares).astype(np.float32)) / len(self.names)


def strange_statistics(network: Any, *, seen_in: Any | None = None, one_of: int = 1) -> StrangeStatistics | None:
    """The distance from training photos by a network's own batch normalisations, or None where it has none.

    ``network``: from ``backbones.build``, or a classifier's. ``seen_in``: the network that will be looked at, if it
    is not this one: one from ``fold_batch_norm``, whose convolutions give what the batch normalisations behind
    them gave. ``one_of``: of so many successive normalisations only the one with the smallest output is looked at.
    """
    inner = application(network)
    rows = normalisations(network)
    if not rows:
        return None
    rows = [min(rows[at : at + one_of], key=lambda row: math.prod(row.shape)) for at in range(0, len(rows), one_of)]
    means, spreads = [], []
    for row in rows:
        layer = inner.get_layer(row.name)
        variance = layer.moving_variance.numpy()
        scale = np.abs(layer.gamma.numpy()) if layer.scale else np.ones_like(variance)
        means.append(layer.beta.numpy() if layer.center else np.zeros_like(variance))
        spreads.append((scale * np.sqrt(variance / (variance + layer.epsilon))).astype(np.float32))
    there = {row.name for row in layer_rows(network if seen_in is None else seen_in)}
    # In place of one that was folded away, the layer whose output it took.
    feeding = {row.name: inner.get_layer(row.name).input._keras_history.operation.name for row in rows}
    names = (row.name if row.name in there else feeding[row.name] for row in rows)
    return StrangeStatistics(tuple(names), tuple(means), tuple(spreads))


def normalisations(network: Any) -> list[LayerRow]:
    """The batch normalisations of maps in a network from ``backbones.build``, or a classifier's."""
    return [row for row in layer_rows(network) if row.kind == "BatchNormalization" and min(row.shape[:2]) > 1]


def _of_class(values: Tensor, classes: Tensor, index: int | None) -> Tensor:
    return tf.gather(values, classes, batch_dims=1) if index is None else values[:, index]
