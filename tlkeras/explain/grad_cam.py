"""Heat maps: where in a photo a network finds what speaks for a class.

Grad-CAM (Selvaraju et al. 2017) weights the last feature maps by their mean gradients; Grad-CAM++ (Chattopadhay
et al. 2018) by those of single places, so that several objects of a class all show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.backbones.layers import check_layer, last_maps, with_layers
from tlkeras.errors import ConfigError, ImageError, unknown
from tlkeras.heads.logits import softmax
from tlkeras.images.arrays import as_pixels
from tlkeras.images.decode import decode, read_bytes
from tlkeras.images.resize import axis
from tlkeras.target import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRAD_CAM = "grad-cam"
GRAD_CAM_PLUS_PLUS = "grad-cam++"
METHODS = (GRAD_CAM, GRAD_CAM_PLUS_PLUS)


@dataclass(frozen=True)
class HeatMap:
    """Where one photo shows a class.

    photo: uint8 ``[H, W, 3]``, upright, whole. heat: float32 ``[H, W]`` in 0..1, 0 where the network did not look
    (what the fit cut off). coarse: float32 ``[h, w]``, the map at the layer's own size, 0 or more, unscaled.
    class_index, label, probability: the class that is explained. probabilities: float32 ``[K]``, of all classes.
    """

    name: str
    method: str
    layer: str
    photo: np.ndarray
    heat: np.ndarray
    coarse: np.ndarray
    class_index: int
    label: str
    probability: float
    probabilities: np.ndarray

    def hottest(self) -> dict[str, int]:
        """The hottest pixel of the photo, ``{"x", "y"}`` from the upper left corner."""
        y, x = np.unravel_index(int(self.heat.argmax()), self.heat.shape)
        return {"x": int(x), "y": int(y)}


class Explainer:
    """Heat maps of one network; the graph is built once.

    ``layer``: the layer whose maps are weighted, by default the last.

    Raises: ConfigError for an unknown method or layer.
    """

    def __init__(self, target: Target, *, method: str = GRAD_CAM, layer: str | None = None) -> None:
        import tensorflow as tf

        if method not in METHODS:
            raise unknown("method", method, METHODS)
        self.target, self.method = target, method
        self.layer = layer if layer is not None else last_maps(target.network)
        if min(check_layer(target.network, self.layer).shape[:2]) < 2:
            raise ConfigError("a heat map needs a layer with a height and a width", received=f"'{self.layer}'")
        network = with_layers(target.network, [self.layer])

        @tf.function(reduce_retracing=True)
        def maps_of(pixels: Any, classes: Any) -> tuple[Any, Any, Any]:
            with tf.GradientTape() as tape:
                tape.watch(pixels)
                outputs = network(pixels, training=False)
                chosen = tf.where(classes < 0, tf.argmax(outputs[""], axis=1, output_type=tf.int32), classes)
                score = tf.gather(outputs[""], chosen, batch_dims=1)
            return outputs[self.layer], tape.gradient(score, outputs[self.layer]), outputs[""]

        self._maps_of = maps_of

    def explain(self, image: Any, class_index: int | None = None, *, name: str = "image") -> HeatMap:
        """The heat map of one photo, for a class or for the one that the network names first.

        ``image``: a path, the bytes of an image file, a Pillow image or an array in 0..255.

        Raises: ImageError when it cannot be decoded; ConfigError for an array of another shape or range.
        """
        photo = _whole(image)
        pixels = self.target.load(photo)[None]
        wanted = np.array([-1 if class_index is None else class_index], np.int32)
        maps, gradients, logits = (tensor.numpy()[0] for tensor in self._maps_of(pixels, wanted))
        probabilities = softmax(logits, self.target.temperature)
        k = int(logits.argmax()) if class_index is None else class_index
        coarse = (weighted if self.method == GRAD_CAM else weighted_plus_plus)(maps, gradients)
        return HeatMap(
            name=name,
            method=self.method,
            layer=self.layer,
            photo=np.rint(photo).astype(np.uint8),
            heat=laid_over(coarse, photo.shape[:2], self.target.size_px, self.target.fit),
            coarse=coarse,
            class_index=k,
            label=self.target.class_names[k],
            probability=float(probabilities[k]),
            probabilities=probabilities,
        )


def weighted(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Grad-CAM: maps and gradients ``[h, w, C]`` → float32 ``[h, w]``, the positive part of the weighted sum."""
    return np.maximum(maps @ gradients.mean(axis=(0, 1)), 0.0).astype(np.float32)


def weighted_plus_plus(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Grad-CAM++ for the exponential of the logit: maps and gradients ``[h, w, C]`` → float32 ``[h, w]``."""
    maps, gradients = maps.astype(np.float64), gradients.astype(np.float64)
    second, third = gradients**2, gradients**3
    below = 2.0 * second + maps.sum(axis=(0, 1)) * third
    share = np.where(gradients != 0, second / np.where(below != 0, below, 1.0), 0.0)
    weights = (share * np.maximum(gradients, 0.0)).sum(axis=(0, 1))
    return np.maximum(maps @ weights, 0.0).astype(np.float32)


def laid_over(coarse: np.ndarray, size: tuple[int, int], size_px: int, fit: str) -> np.ndarray:
    """A map of the network's square, laid back over the photo of ``size`` (H, W): float32 ``[H, W]`` in 0..1.

    The fit is undone: what was cropped away is 0, what was padded is left out.
    """
    height, width = size
    rows = _back(height, width, size_px, fit, coarse.shape[0])
    columns = _back(width, height, size_px, fit, coarse.shape[1])
    heat = rows @ coarse.astype(np.float64) @ columns.T
    most = heat.max()
    return (heat / most if most > 0 else heat).astype(np.float32)


def heat_maps(
    target: Target,
    images: Sequence[Any],
    class_index: int | None = None,
    *,
    method: str = GRAD_CAM,
    layer: str | None = None,
    failed: Callable[[int, ImageError], None] | None = None,
) -> list[HeatMap]:
    """Heat maps of photos (see :class:`Explainer`); one that cannot be decoded is handed to ``failed`` with its index.

    Raises: ImageError when ``failed`` is not given; ConfigError for an unknown method or layer.
    """
    explainer = Explainer(target, method=method, layer=layer)
    found = []
    for index, image in enumerate(images):
        try:
            found.append(explainer.explain(image, class_index, name=_name(image, index)))
        except ImageError as error:
            if failed is None:
                raise
            failed(index, error)
    return found


def blended(heat_map: HeatMap, *, strength: float = 0.6) -> np.ndarray:
    """The photo with its heat in colours over it, at its own size: uint8 ``[H, W, 3]``.

    ``strength``: how much the hottest place is covered, 0..1.
    """
    import matplotlib

    colours = matplotlib.colormaps["turbo"](heat_map.heat)[..., :3] * 255.0
    cover = strength * heat_map.heat[..., None]
    return np.rint(heat_map.photo * (1.0 - cover) + colours * cover).astype(np.uint8)


def comparison(heat_map: HeatMap) -> Figure:
    """The photo and the photo with its heat, side by side, with what is explained."""
    from matplotlib.figure import Figure

    height, width = heat_map.photo.shape[:2]
    figure = Figure(figsize=(8.0, max(4.0 * height / width, 1.5) + 0.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(heat_map.photo)
    right.imshow(blended(heat_map))
    for half in (left, right):
        half.axis("off")
    right.set_title(f"{heat_map.label.replace('_', ' ')}  {heat_map.probability:.3f}", fontsize=10)
    left.set_title(f"{heat_map.method}, {heat_map.layer}", fontsize=10)
    return figure


def _name(image: Any, index: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"image {index}"


def _whole(image: Any) -> np.ndarray:
    if isinstance(image, str | Path):
        return decode(read_bytes(image)).pixels
    if isinstance(image, bytes | bytearray | memoryview):
        return decode(bytes(image)).pixels
    return as_pixels(image)


def _back(n: int, other: int, size_px: int, fit: str, cells: int) -> np.ndarray:
    """Weights ``[n, cells]`` that read a map of the square at each of ``n`` photo pixels, linear between cells."""
    lo, hi, first, count = axis(n, min(n, other), max(n, other), size_px, fit)
    place = np.arange(n) + 0.5
    in_square = first + (place - lo) * count / (hi - lo)
    cell = np.clip(in_square * cells / size_px - 0.5, 0, cells - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(cell[:, None] - np.arange(cells)[None, :]))
    weights[(place < lo) | (place > hi)] = 0.0
    return weights
