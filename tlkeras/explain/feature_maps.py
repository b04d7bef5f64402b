"""Feature maps: what the layers of a network extract from a photo, as grids and as figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.backbones.layers import check_layer, last_of_each_size, with_layers
from tlkeras.errors import ConfigError
from tlkeras.target import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerMaps:
    """What one layer makes of one photo: ``maps`` float32 ``[H, W, C]``."""

    layer: str
    kind: str
    maps: np.ndarray

    def strongest(self, count: int) -> np.ndarray:
        """The indices of the channels whose maps differ most from place to place, strongest first: int64 ``[n]``."""
        spread = self.maps.std(axis=(0, 1))
        return np.argsort(-spread, kind="stable")[:count]

    def statistics(self) -> dict[str, Any]:
        """Mean, spread, range, the share of zeros, and the channels that are zero everywhere."""
        maps = self.maps
        return {
            "layer": self.layer,
            "kind": self.kind,
            "shape": list(maps.shape),
            "mean": round(float(maps.mean()), 6),
            "std": round(float(maps.std()), 6),
            "min": round(float(maps.min()), 6),
            "max": round(float(maps.max()), 6),
            "zero_share": round(float((maps == 0).mean()), 6),
            "dead_channels": int((maps == 0).all(axis=(0, 1)).sum()),
            "strongest_channels": [int(channel) for channel in self.strongest(5)],
        }


@dataclass(frozen=True)
class FeatureMaps:
    """What several layers make of one photo; ``pixels``: float32 ``[S, S, 3]`` in 0..255 as the network took it."""

    network: str
    pixels: np.ndarray
    layers: tuple[LayerMaps, ...]


def feature_maps(target: Target, image: Any, layers: Sequence[str] = ()) -> FeatureMaps:
    """The maps of ``layers``; by default of the last layer of each size, from the first to the last block.

    ``image``: a path, the bytes of an image file, a Pillow image or an array in 0..255.

    Raises: ConfigError for a layer that is not there; ImageError for an image that cannot be decoded.
    """
    names = tuple(layers) or last_of_each_size(target.network)
    rows = [check_layer(target.network, name) for name in names]
    pixels = target.load(image)
    outputs = with_layers(target.network, names)(pixels[None], training=False)
    found = [LayerMaps(row.name, row.kind, outputs[row.name].numpy()[0]) for row in rows]
    return FeatureMaps(target.name, pixels, tuple(found))


def grid(layer: LayerMaps, *, channels: int = 64) -> Figure:
    """The strongest channels of a layer, each scaled on its own: dark is little, bright is much.

    Raises: ConfigError for less than one channel.
    """
    from matplotlib.figure import Figure

    if channels < 1:
        raise ConfigError("at least one channel must be shown", received=channels)
    shown = layer.strongest(channels)
    columns = min(len(shown), 8)
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(1.15 * columns, 1.3 * rows + 0.4), layout="constrained")
    height, width, count = layer.maps.shape
    figure.suptitle(f"{layer.layer}: {len(shown)} of {count} channels, {height} × {width}", fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for channel, axis in zip(shown, axes.flat, strict=False):
        axis.imshow(layer.maps[..., channel], cmap="viridis", interpolation="nearest")
        axis.set_title(str(channel), fontsize=7, pad=2)
    return figure


def overview(found: FeatureMaps, *, channels: int = 8) -> Figure:
    """The photo, and a row for each layer with its strongest channels: from edges to objects."""
    from matplotlib.figure import Figure

    rows = len(found.layers)
    figure = Figure(figsize=(1.25 * (channels + 1.6), 1.35 * rows), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.6, channels], squeeze=False)[0]
    axis = left.subplots()
    axis.imshow(found.pixels.astype(np.uint8))
    axis.axis("off")
    axis.set_title(found.network, fontsize=9)
    axes = right.subplots(rows, channels, squeeze=False)
    for layer, line in zip(found.layers, axes, strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(False)
        for channel, axis in zip(layer.strongest(channels), line, strict=False):
            axis.imshow(layer.maps[..., channel], cmap="viridis", interpolation="nearest")
        line[0].set_title(f"{layer.layer}  {' × '.join(map(str, layer.maps.shape))}", fontsize=8, loc="left", pad=3)
    return figure
