"""What is inside a network: its layers, the network rebuilt so that it gives their outputs too, and its blocks.

In Keras 3 a layer of a nested model has an output in the nested model's own graph only, so a model from outer
pixels to an inner layer cannot simply be asked for. Here the outer graph is laid anew around the nested one.

Blocks are what lies at one resolution: the stages that papers number (``conv2_x`` … of ResNet, ``block1`` … of VGG,
the dense blocks of DenseNet). They are found from the shapes of the layers' outputs, so no family needs a table of
names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlkeras.backbones.network import application
from tlkeras.errors import ConfigError, unknown

# They repeat or frame what the layer before them has found.
_PLUMBING = ("InputLayer", "ZeroPadding2D", "Dropout", "SpatialDropout2D", "MaxPooling2D", "Rescaling", "Normalization")


@dataclass(frozen=True)
class LayerRow:
    """One layer of a network: its name, its Keras class, and the shape of its output without the batch."""

    name: str
    kind: str
    shape: tuple[int, ...]


def layer_rows(model: Any) -> tuple[LayerRow, ...]:
    """The layers of the keras.applications network inside ``model`` that give ``[H, W, C]``, from pixels to features.

    ``model``: from ``backbones.build``, or a classifier's network.
    """
    rows = []
    for layer in application(model).layers:
        shape = getattr(layer.output, "shape", ())
        if len(shape) == 4 and type(layer).__name__ != "InputLayer":
            rows.append(LayerRow(layer.name, type(layer).__name__, tuple(shape[1:])))
    return tuple(rows)


def last_of_each_size(model: Any) -> tuple[str, ...]:
    """The names of the last telling layer of each height: what each stage of the network ends with."""
    by_height = {row.shape[0]: row.name for row in layer_rows(model) if row.shape[0] > 1 and row.kind not in _PLUMBING}
    return tuple(by_height[height] for height in sorted(by_height, reverse=True))


def last_maps(model: Any) -> str:
    """The name of the layer whose maps are averaged into features: the last with a height.

    Raises: ConfigError for a network without feature maps.
    """
    rows = [row for row in layer_rows(model) if max(row.shape[:2]) > 1 and row.kind not in _PLUMBING]
    if not rows:
        raise ConfigError("the network must have feature maps", received=f"{model.name}, whose layers have none")
    return rows[-1].name


def check_layer(model: Any, name: str) -> LayerRow:
    """The row of a layer.

    Raises: ConfigError for a name that no layer has, with the nearest one.
    """
    rows = {row.name: row for row in layer_rows(model)}
    if name not in rows:
        raise unknown("layer", name, rows, next_step="'tlkeras features NETWORK --list' lists all.")
    return rows[name]


def with_layers(model: Any, names: Sequence[str]) -> Any:
    """The same network, sharing all weights: pixels → ``{name: output, …, "": the network's own output}``.

    Where a network sends several views of an image through its backbone, the first one's outputs are given.

    Raises: ConfigError for a name that no layer has.
    """
    import keras

    for name in names:
        check_layer(model, name)
    inner = application(model)
    tapped = keras.Model(inner.inputs, [*(inner.get_layer(name).output for name in names), inner.output])
    layers, output = _around(model, inner, tapped)
    given, pixels = layers
    return keras.Model(pixels, {**dict(zip(names, given, strict=True)), "": output})


def _around(model: Any, inner: Any, tapped: Any) -> tuple[tuple[list[Any], Any], Any]:
    """Lay the graph of ``model`` anew with ``tapped`` in the place of ``inner``: ((tapped outputs, input), output)."""
    import keras

    if model is inner:
        *taps, output = _as_list(tapped.outputs)
        return (taps, tapped.inputs[0]), output
    child = next(layer for layer in model.layers if isinstance(layer, keras.Model) and _holds(layer, inner))
    (child_taps, child_input), child_output = _around(child, inner, tapped)
    child_tapped = keras.Model(child_input, [*child_taps, child_output])
    found: list[Any] = []

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        if layer is not child:
            return layer(*arguments, **options)
        *outputs, last = _as_list(child_tapped(*arguments, **options))
        found.append(outputs)
        return last

    again = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    return (found[0], again.inputs[0]), again.outputs[0]


def _holds(model: Any, inner: Any) -> bool:
    import keras

    return model is inner or any(isinstance(layer, keras.Model) and _holds(layer, inner) for layer in model.layers)


def _as_list(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


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
