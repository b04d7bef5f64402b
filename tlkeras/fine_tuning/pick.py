"""Which of the weights that a course of training passed through make a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RAW, AVERAGED = "raw", "averaged"


@dataclass(frozen=True)
class Pick:
    """The mean of the weights after some epochs, or a point on the line from the start to it.

    kind: ``raw`` weights, or ``averaged``, their moving average. epochs: counted from 1. share: how far from the
    start, 0..1 (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). new_head: the head is not the one on
    that line, but fitted to the features that the network there gives.
    The same pick of another course, over more photos, is the same recipe.
    """

    kind: str
    epochs: tuple[int, ...]
    share: float = 1.0
    new_head: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def blend(self, start: Sequence[np.ndarray], parts: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """The weights that are meant. ``parts``: those after each of ``epochs``; ``start``: those before the first."""
        meant = [_mean(weights) for weights in zip(*parts, strict=True)]
        if self.share == 1.0:
            return meant
        return [_between(before, after, self.share) for before, after in zip(start, meant, strict=True)]


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    # What is the same in all stays as it is: the mean of equals may be rounded.
    if all(np.array_equal(parts[0], part) for part in parts[1:]):
        return parts[0]
    return np.asarray(np.mean(np.stack(parts), axis=0, dtype=np.float64), parts[0].dtype)


def _between(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    if np.array_equal(before, after):
        return before
    return np.asarray(before + share * (after.astype(np.float64) - before), after.dtype)
