"""The layers inside a network: their list, and the network rebuilt so that it gives their outputs too.

In Keras 3 a layer of a nested model has an output in the nested model's own graph only, so a model from outer
pixels to an inner layer cannot simply be asked for. Here the outer graph is laid anew around the nested one.
"""

from __future__ import annotations

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
