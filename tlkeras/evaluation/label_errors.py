"""Labels that are probably wrong, by confident learning (Northcutt, Jiang and Chuang 2021).

What is needed are probabilities from models that did not see the image that they judge. A class's own images set its
threshold: the mean probability that they get for it. An image that reaches the threshold of another class, and not by
being torn between many, is counted there; it is in doubt when the model's first choice is not its label either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tlkeras.heads.logits import check_scores

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Doubt:
    """Image ``index`` has the class ``label`` and looks like ``suggested``; both probabilities are in 0..1."""

    index: int
    label: int
    suggested: int
    label_probability: float
    suggested_probability: float


def label_doubts(batches: Callable[[], Iterable[Batch]]) -> list[Doubt]:
    """Images whose label is in doubt, the most doubtful first, by out-of-sample probabilities.

    ``batches``: gives numbers int [n] of images, their probabilities [n, K] and labels int [n] batch by batch, the same
    each time: it is called twice. Doubts are the off-diagonal part of the confident joint, ordered by how far the
    suggested class is ahead.

    Raises:
        DataError: probabilities and labels that do not fit each other.
    """
    counts, sums = np.zeros(0), np.zeros(0)
    for _, probabilities, labels in batches():
        wide, labels = check_scores(probabilities, labels, "probabilities")
        if not len(counts):
            counts, sums = np.zeros(wide.shape[1]), np.zeros(wide.shape[1])
        counts += np.bincount(labels, minlength=len(counts))
        sums += np.bincount(labels, wide[np.arange(len(labels)), labels], minlength=len(counts))
    # A class without images suggests nothing.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    found: list[Doubt] = []
    for numbers, probabilities, labels in batches():
        wide, labels = check_scores(probabilities, labels, "probabilities")
        own = wide[np.arange(len(labels)), labels]
        confident = np.where(wide >= thresholds, wide, -np.inf)
        suggested = confident.argmax(axis=1)
        doubtful = np.isfinite(confident.max(axis=1)) & (suggested != labels) & (wide.argmax(axis=1) != labels)
        found += [
            Doubt(int(numbers[i]), int(labels[i]), int(suggested[i]), float(own[i]), float(wide[i, suggested[i]]))
            for i in np.flatnonzero(doubtful)
        ]
    return sorted(found, key=lambda doubt: doubt.label_probability - doubt.suggested_probability)
