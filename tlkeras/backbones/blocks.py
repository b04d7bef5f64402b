"""The blocks of a network, told by its structure: what lies at one resolution belongs together.

These are the stages that papers number (``conv2_x`` … of ResNet, ``block1`` … of VGG, the dense blocks of DenseNet).
They are found from the shapes of the layers' outputs, so no family needs a table of names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tlkeras.backbones.network import application


@dataclass(frozen=True)
class NetworkBlock:
    """The layers with weights that compute maps of one resolution, from pixels to features.

    layers: Keras layers. shrinkage: how often the input's side was halved on the way to them.
    """

    layers: tuple[Any, ...]
    shrinkage: int

    @property
    def variables(self) -> list[Any]:
        """Every Keras variable of the block, statistics of normalisations too."""
        return [variable for layer in self.layers for variable in layer.weights]


def blocks(model: Any) -> tuple[NetworkBlock, ...]:
    """The blocks of the keras.applications network inside ``model``, the one at the pixels first.

    ``model``: from ``backbones.build``, or a classifier's network. Each layer with weights is in one of them.

    Raises: ConfigError when there is no such network inside.
    """
    network = application(model)
    side = network.input_shape[1]
    readers: dict[str, list[Any]] = {}
    operations = network.operations  # sorted: what is read comes first; more than layers: additions read as well
    for operation in operations:
        for node in operation._inbound_nodes:
            for tensor in node.input_tensors:
                if tensor._keras_history[0] is not operation:
                    readers.setdefault(tensor._keras_history[0].name, []).append(operation)
    shrinkage: dict[str, float] = {}
    for operation in reversed(operations):
        # What only sees pooled maps (squeeze and excitation) belongs to the maps that it weighs: nothing lies behind
        # what reads it.
        behind = [shrinkage[reader.name] for reader in readers.get(operation.name, []) if reader.name in shrinkage]
        # What has no weights only passes on; a padding's larger maps are no step back.
        own = _halvings(operation, side) if getattr(operation, "weights", ()) else math.inf
        shrinkage[operation.name] = min([own, *behind])
    found: dict[float, list[Any]] = {}
    for layer in network.layers:
        if layer.weights:
            found.setdefault(shrinkage[layer.name], []).append(layer)
    pooled = found.pop(math.inf, [])  # ConvNeXt normalises once more what was averaged
    found[max(found)] += pooled
    return tuple(NetworkBlock(tuple(found[times]), int(times)) for times in sorted(found))


def _halvings(operation: Any, side: int) -> float:
    shape: Any = getattr(operation.output, "shape", ())
    # Without padding a convolution takes a pixel or two off; that makes no new block.
    return round(math.log2(side / shape[1])) if len(shape) == 4 and shape[1] else math.inf
