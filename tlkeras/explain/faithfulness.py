"""How faithful a heat map is: what becomes of the class while its hottest places are hidden first, or shown first.

Deletion and insertion of Petsiuk et al. 2018 (RISE): a faithful map loses the class quickly when its hottest patches
are blurred, and finds it quickly when they are the first that are sharp. Both go between the photo and the same blurred
photo, so an order has the score of its reverse with the sign turned, and a map without meaning scores 0 on average. How
far from 0 chance takes one is told by random maps that are as smooth as heat maps are: scattered patches would hide
nothing whole, and any blob would beat them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

Answer = Callable[[np.ndarray], np.ndarray]  # float32 [n, S, S, 3] in 0..255 -> probabilities float32 [n, K]

# Patches along a side; what is hidden grows by one patch in each of ``STEPS`` of equal size.
CELLS = 14
STEPS = 7
RANDOM_MAPS = 8
# Answers that measuring one map takes.
ANSWERS = 2 + 2 * (STEPS - 1) * (1 + RANDOM_MAPS)
# One map of 40 without meaning is that far above 0.
SIGMAS = 2.0
BATCH = 32


@dataclass(frozen=True)
class Faithfulness:
    """deletion, insertion: areas under the curve of the class's probability, 0..1, over the share of the photo.

    random_score: the root mean square of the scores of random maps on the same photo.
    """

    deletion: float
    insertion: float
    random_score: float

    @property
    def score(self) -> float:
        """Insertion less deletion, -1..1; 0 for a map without meaning."""
        return self.insertion - self.deletion

    @property
    def better_than_chance(self) -> bool:
        """Whether the score is out of reach of random maps."""
        return self.score > SIGMAS * self.random_score

    def __str__(self) -> str:
        words = f"score {self.score:.2f}, by chance ±{self.random_score:.2f}"
        return words if self.better_than_chance else f"{words}: no better than chance"

    def to_json(self) -> dict[str, Any]:
        """All of it, as plain values."""
        figures = {name: round(getattr(self, name), 6) for name in ("deletion", "insertion", "score", "random_score")}
        return {**figures, "better_than_chance": self.better_than_chance}


def faithfulness(answer: Answer, pixels: np.ndarray, class_index: int, coarse: np.ndarray) -> Faithfulness:
    """How faithful ``coarse``, float ``[h, w]``, is to what ``answer`` says of ``pixels``, float32 ``[S, S, 3]``.

    ``ANSWERS`` images are asked about.
    """
    found = areas(answer, pixels, blurred(pixels), class_index, [order_of(coarse), *random_orders()])
    return of_areas(found[0], found[1:])


def of_areas(map_areas: np.ndarray, random_areas: np.ndarray) -> Faithfulness:
    """From insertion and deletion of a map, ``[2]``, and of random maps on the same photo, ``[n, 2]``."""
    insertion, deletion = map(float, map_areas)
    return Faithfulness(deletion, insertion, float(np.sqrt(np.mean((random_areas[:, 0] - random_areas[:, 1]) ** 2))))


def areas(
    answer: Answer, pixels: np.ndarray, hidden: np.ndarray, class_index: int, orders: Sequence[np.ndarray]
) -> np.ndarray:
    """Insertion and deletion, float ``[n, 2]``, for each order of the patches.

    ``hidden``: float32 ``[S, S, 3]``, what stands where nothing of the photo is shown.
    """

    def images() -> Iterator[np.ndarray]:
        for order in orders:
            for shown in _shown(order, len(pixels)):
                yield np.where(shown, pixels, hidden)
                yield np.where(shown, hidden, pixels)

    ends = answer(np.stack([hidden, pixels]))[:, class_index]
    curves = asked(answer, images(), class_index).reshape(len(orders), STEPS - 1, 2)
    # Trapezoids: both curves run between the hidden and the whole photo.
    return (curves.sum(axis=1) + ends.sum() / 2) / STEPS


def order_of(coarse: np.ndarray) -> np.ndarray:
    """The patches from the hottest to the coldest, int64 ``[CELLS²]``."""
    # Ties (Grad-CAM has many zeros) are broken by chance, not by place.
    tie = np.random.default_rng(0).random(CELLS * CELLS)
    return np.lexsort((tie, -resized(coarse, CELLS, CELLS).ravel()))


@functools.cache
def random_orders() -> tuple[np.ndarray, ...]:
    """Those of random maps, the same for every photo, so that all are measured against the same chance."""
    random = np.random.default_rng(0)
    maps = (gaussian_filter(random.standard_normal((CELLS, CELLS)), CELLS / 7) for _ in range(RANDOM_MAPS))
    return tuple(np.argsort(-one.ravel()) for one in maps)


def blurred(pixels: np.ndarray) -> np.ndarray:
    """A photo ``[S, S, 3]`` in which nothing smaller than two patches is left, float32."""
    deviation = len(pixels) / CELLS
    return gaussian_filter(pixels.astype(np.float32), (deviation, deviation, 0), mode="nearest")


def asked(answer: Answer, images: Iterable[np.ndarray], class_index: int) -> np.ndarray:
    """The probabilities of a class, float32 ``[n]``, of images ``[S, S, 3]`` that are made as they are needed."""
    rows = []
    left = iter(images)
    while batch := list(itertools.islice(left, BATCH)):
        rows.append(answer(np.stack(batch).astype(np.float32))[:, class_index])
    return np.concatenate(rows)


def resized(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map ``[h, w]`` read at the centres of ``height`` × ``width`` places, linear between its cells: float64."""
    rows, columns = ((np.arange(n) + 0.5) / n for n in (height, width))
    return linear(rows, coarse.shape[0]) @ coarse.astype(np.float64) @ linear(columns, coarse.shape[1]).T


def linear(places: np.ndarray, cells: int) -> np.ndarray:
    """Weights ``[n, cells]`` that read a map's axis at ``places``, 0..1 along it, linear between cells."""
    cell = np.clip(places * cells - 0.5, 0, cells - 1)
    return np.maximum(0.0, 1.0 - np.abs(cell[:, None] - np.arange(cells)[None, :]))


def _shown(order: np.ndarray, size_px: int) -> Iterator[np.ndarray]:
    """Which pixels are among the first patches of an order, bool ``[S, S, 1]``, in each step between none and all."""
    cell = np.arange(size_px) * CELLS // size_px
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    place = place.reshape(CELLS, CELLS)[cell][:, cell][..., None]
    return (place * STEPS < step * len(order) for step in range(1, STEPS))
