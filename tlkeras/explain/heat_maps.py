"""Heat maps: where in a photo a network finds what speaks for a class, and whether that is more than chance.

The methods are in ``tlkeras.explain.methods``; each map is measured as ``tlkeras.explain.faithfulness`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.backbones.layers import check_layer, last_maps
from tlkeras.errors import ConfigError, ImageError, unknown
from tlkeras.explain.faithfulness import ANSWERS, CELLS, Faithfulness, faithfulness, linear
from tlkeras.explain.methods import METHODS
from tlkeras.images.arrays import as_pixels
from tlkeras.images.decode import decode, read_bytes
from tlkeras.images.resize import axis
from tlkeras.target import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUTO = "auto"


@dataclass(frozen=True)
class HeatMap:
    """Where one photo shows a class.

    photo: uint8 ``[H, W, 3]``, upright, whole. heat: float32 ``[H, W]`` in 0..1, 0 where the network did not look
    (what the fit cut off). coarse: float32 ``[h, w]``, the map at the layer's own size, 0 or more, unscaled.
    class_index, label, probability: the class that is explained. probabilities: float32 ``[K]``, of all classes.
    faithfulness: how the map does against random ones.
    """

    name: str
    method: str
    layers: tuple[str, ...]
    photo: np.ndarray
    heat: np.ndarray
    coarse: np.ndarray
    class_index: int
    label: str
    probability: float
    probabilities: np.ndarray
    faithfulness: Faithfulness

    def hottest(self) -> dict[str, int]:
        """The hottest pixel of the photo, ``{"x", "y"}`` from the upper left corner."""
        y, x = np.unravel_index(int(self.heat.argmax()), self.heat.shape)
        return {"x": int(x), "y": int(y)}


class Explainer:
    """Heat maps of one network; graph and engine are made once.

    ``method``: one of ``METHODS``, or ``auto`` for Grad-CAM where the last maps have ``CELLS`` cells a side, and
    occlusion where they are coarser. ``layer``: for a method that weights a layer's maps, by default the last.
    ``photos``: how many there will be, where that is known: for few a network is not converted for a fast engine.

    Raises: ConfigError for an unknown method or layer.
    """

    def __init__(
        self, target: Target, *, method: str = AUTO, layer: str | None = None, photos: int | None = None
    ) -> None:
        if method not in (AUTO, *METHODS):
            raise unknown("method", method, (AUTO, *METHODS))
        if method == AUTO:
            fine = layer is not None or min(check_layer(target.network, last_maps(target.network)).shape[:2]) >= CELLS
            method = "grad-cam" if fine else "occlusion"
        chosen = METHODS[method]
        self.target, self.method, self.layers = target, method, chosen.layers(target.network)
        if layer is not None:
            if not self.layers:
                raise ConfigError(f"{method} looks at no layer", received=layer, next_step="Choose another method.")
            self.layers = (layer,)
        self._map_of = chosen.make(target, self.layers)
        self._answer = target.quick_answers(None if photos is None else photos * ANSWERS)

    def explain(self, image: Any, class_index: int | None = None, *, name: str = "image") -> HeatMap:
        """The heat map of one photo, for a class or for the one that the network names first.

        ``image``: a path, the bytes of an image file, a Pillow image or an array in 0..255.

        Raises: ImageError when it cannot be decoded; ConfigError for an array of another shape or range.
        """
        photo = _whole(image)
        pixels = self.target.load(photo)
        (probabilities,) = self._answer(pixels[None])
        k = int(probabilities.argmax()) if class_index is None else class_index
        coarse = self._map_of(pixels, k, self._answer)
        return HeatMap(
            name=name,
            method=self.method,
            layers=self.layers,
            photo=np.rint(photo).astype(np.uint8),
            heat=laid_over(coarse, photo.shape[:2], self.target.size_px, self.target.fit),
            coarse=coarse,
            class_index=k,
            label=self.target.class_names[k],
            probability=float(probabilities[k]),
            probabilities=probabilities,
            faithfulness=faithfulness(self._answer, pixels, k, coarse),
        )


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
    method: str = AUTO,
    layer: str | None = None,
    failed: Callable[[int, ImageError], None] | None = None,
) -> list[HeatMap]:
    """Heat maps of photos (see :class:`Explainer`); one that cannot be decoded is handed to ``failed`` with its index.

    Raises: ImageError when ``failed`` is not given; ConfigError for an unknown method or layer.
    """
    explainer = Explainer(target, method=method, layer=layer, photos=len(images))
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
    """The photo and the photo with its heat, side by side, with what is explained and how faithful the map is."""
    from matplotlib.figure import Figure

    height, width = heat_map.photo.shape[:2]
    figure = Figure(figsize=(8.0, max(4.0 * height / width, 1.5) + 0.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(heat_map.photo)
    right.imshow(blended(heat_map))
    for half in (left, right):
        half.axis("off")
    label = heat_map.label.replace("_", " ")
    right.set_title(f"{label}  {heat_map.probability:.3f}\n{heat_map.faithfulness}", fontsize=9)
    left.set_title(", ".join([heat_map.method, *heat_map.layers]), fontsize=9)
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
    weights = linear(in_square / size_px, cells)
    weights[(place < lo) | (place > hi)] = 0.0
    return weights
