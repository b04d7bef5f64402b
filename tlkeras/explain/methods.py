"""Methods of heat maps: each gives a coarse map of where in a fitted photo a network finds a class.

- ``grad-cam`` (Selvaraju et al. 2017) weights the last maps by their mean gradients.
- ``layer-cam`` (Jiang et al. 2021) weights each place by its own positive gradient, which earlier and finer maps
  allow. Those of the last three sizes are multiplied: what is hot is hot in all of them.
- ``occlusion`` (Zeiler & Fergus 2014) hides patches of two sizes behind a blur and measures how far the logarithm of
  the class's probability falls. It asks for answers only, no gradient.

``python -m benchmarks.heat_maps`` compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.backbones.layers import check_layer, last_maps, last_of_each_size, with_layers
from tlkeras.errors import ConfigError
from tlkeras.explain.faithfulness import CELLS, Answer, asked, blurred, resized
from tlkeras.target import Target

# From fitted pixels float32 [S, S, 3], a class, and whom to ask, to a map float32 [h, w], 0 or more.
MapOf = Callable[[np.ndarray, int, Answer], np.ndarray]

LAYER_CAM_SIZES = 3
# Patches along a side of the photo; each is hidden together with its right and lower neighbours.
_PATCHES = (CELLS // 2, CELLS)


@dataclass(frozen=True)
class Method:
    """layers: the names of the layers of a network that it looks at by default. make: the method for a network."""

    layers: Callable[[Any], tuple[str, ...]]
    make: Callable[[Target, Sequence[str]], MapOf]


def grad_cam(target: Target, layers: Sequence[str]) -> MapOf:
    """Grad-CAM of one layer."""
    maps_of = _gradients(target, layers)

    def made(pixels: np.ndarray, class_index: int, answer: Answer) -> np.ndarray:
        ((maps, gradients),) = maps_of(pixels, class_index)
        return weighted(maps, gradients)

    return made


def layer_cam(target: Target, layers: Sequence[str]) -> MapOf:
    """The product of the Layer-CAMs of layers, as fine as the finest."""
    maps_of = _gradients(target, layers)

    def made(pixels: np.ndarray, class_index: int, answer: Answer) -> np.ndarray:
        single = [weighted_by_place(*found) for found in maps_of(pixels, class_index)]
        height, width = (max(one.shape[axis] for one in single) for axis in (0, 1))
        return np.prod([_up_to_one(resized(one, height, width)) for one in single], axis=0).astype(np.float32)

    return made


def occlusion(target: Target, layers: Sequence[str]) -> MapOf:
    """How much the class loses where something is hidden: float32 ``[CELLS, CELLS]``."""
    del target, layers

    def made(pixels: np.ndarray, class_index: int, answer: Answer) -> np.ndarray:
        behind = blurred(pixels)
        whole = _log(answer(pixels[None])[:, class_index])

        def images(patches: int) -> Iterator[np.ndarray]:
            edge = np.arange(patches + 1) * len(pixels) // patches
            for row, column in np.ndindex(patches - 1, patches - 1):
                image = pixels.copy()
                hidden = slice(edge[row], edge[row + 2]), slice(edge[column], edge[column + 2])
                image[hidden] = behind[hidden]
                yield image

        heat = np.zeros((CELLS, CELLS))
        for patches in _PATCHES:
            lost = whole - _log(asked(answer, images(patches), class_index))
            times = CELLS // patches
            heat += np.kron(_up_to_one(_of_patches(lost.reshape(patches - 1, -1))), np.ones((times, times)))
        return heat.astype(np.float32)

    return made


METHODS = {
    "grad-cam": Method(lambda network: (last_maps(network),), grad_cam),
    "layer-cam": Method(lambda network: last_of_each_size(network)[-LAYER_CAM_SIZES:], layer_cam),
    "occlusion": Method(lambda network: (), occlusion),
}


def weighted(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Grad-CAM: maps and gradients ``[h, w, C]`` → float32 ``[h, w]``, the positive part of the weighted sum."""
    return np.maximum(maps @ gradients.mean(axis=(0, 1)), 0.0).astype(np.float32)


def weighted_by_place(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Layer-CAM: maps and gradients ``[h, w, C]`` → float32 ``[h, w]``, each place by its own positive gradient."""
    return np.maximum((maps * np.maximum(gradients, 0.0)).sum(axis=-1), 0.0).astype(np.float32)


def _gradients(
    target: Target, names: Sequence[str]
) -> Callable[[np.ndarray, int], list[tuple[np.ndarray, np.ndarray]]]:
    """The maps of layers and the gradients of a logit by them, both float32 ``[h, w, C]``; the graph is built once."""
    import tensorflow as tf

    for name in names:
        if min(check_layer(target.network, name).shape[:2]) < 2:
            raise ConfigError("a heat map needs a layer with a height and a width", received=f"'{name}'")
    network = with_layers(target.network, names)

    @tf.function(reduce_retracing=True)
    def maps_of(pixels: Any, class_index: Any) -> tuple[list[Any], list[Any]]:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            outputs = network(pixels, training=False)
            score = outputs[""][0, class_index]
        maps = [outputs[name] for name in names]
        return maps, tape.gradient(score, maps)

    def numbers(pixels: np.ndarray, class_index: int) -> list[tuple[Any, Any]]:
        maps, gradients = maps_of(tf.constant(pixels[None]), tf.constant(class_index))
        return [(one.numpy()[0], by.numpy()[0]) for one, by in zip(maps, gradients, strict=True)]

    return numbers


def _of_patches(lost: np.ndarray) -> np.ndarray:
    """The mean loss of the squares of two patches' side ``[n, n]`` that hide each patch: ``[n + 1, n + 1]``, ≥ 0."""
    total, count = (np.zeros(np.add(lost.shape, 1)) for _ in range(2))
    for row, column in np.ndindex(2, 2):
        here = slice(row, row + len(lost)), slice(column, column + len(lost))
        total[here] += lost
        count[here] += 1
    return np.maximum(total / count, 0.0)


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), 1e-12))


def _up_to_one(values: np.ndarray) -> np.ndarray:
    most = values.max()
    return values / most if most > 0 else values
