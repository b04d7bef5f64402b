"""A network's random twin: the same architecture without what it learned, to measure what the learning is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tlkeras.backbones.network import application, build
from tlkeras.backbones.weights import NONE

if TYPE_CHECKING:
    import keras


def random_twin(backbone: str, pixels: np.ndarray, *, seed: int = 0) -> keras.Model:
    """The network of ``backbone`` with random weights, as ``build`` gives it, that lets images through.

    ``pixels``: float32 ``[n, S, S, 3]`` in 0..255, photos of the data in question. Batch normalisation takes its
    statistics from them, with a shift that lets most of the signal pass the ReLU behind it: with what it is drawn
    with, the signal of a deep network shrinks to rounding, and without the shift the network is chaotic (Yang et
    al. 2019). The twin would then be worse for a reason that has nothing to do with learning. Keras' global random
    state is set from ``seed``.

    Raises:
        ConfigError: an unknown backbone or a size that it does not take.
    """
    import keras

    keras.utils.set_random_seed(seed)
    network = build(backbone, NONE, size_px=pixels.shape[1])
    normalisations = [
        layer for layer in application(network).layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    kept = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
        layer.beta.assign(layer.beta + 1.0)
    if normalisations:
        network(pixels, training=True)
    for layer, momentum in zip(normalisations, kept, strict=True):
        layer.momentum = momentum
    network.trainable = False
    return network
