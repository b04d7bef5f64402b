"""Labels that are probably wrong, by confident learning (Northcutt, Jiang and Chuang 2021).

What is needed are probabilities from models that did not see the image that they judge. A class's own images set its
threshold: the mean probability that they get for it. An image that reaches the threshold of another class, and not by
being torn between many, is counted there; it is in doubt when the model's first choice is not its label either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlkeras.heads.logits import check_scores


@dataclass(frozen=True)
class Doubt:
    """Image ``index`` has the class ``label`` and looks like ``suggested``; both probabilities are in 0..1."""

    index: int
    label: int
    suggested: int
    label_probability: float
    suggested_probability: float


def label_doubts(probabilities: np.ndarray, labels: np.ndarray) -> list[Doubt]:
    """Images whose label is in doubt, the most doubtful first, by out-of-sample probabilities [N, K] and labels [N].

    They are the off-diagonal part of the confident joint, ordered by how far the suggested class is ahead.

    Raises:
        DataError: probabilities and labels that do not fit each other.
    """
    wide, labels = check_scores(probabilities, labels, "probabilities")
    if not len(labels):
        return []
    classes = wide.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = wide[np.arange(len(labels)), labels]
    # A class without images suggests nothing.
    thresholds = np.where(counts, np.bincount(labels, own, minlength=classes) / np.maximum(counts, 1), np.inf)
    confident = np.where(wide >= thresholds, wide, -np.inf)
    suggested = confident.argmax(axis=1)
    doubtful = np.isfinite(confident.max(axis=1)) & (suggested != labels) & (wide.argmax(axis=1) != labels)
    found = np.flatnonzero(doubtful)
    margins = own[found] - wide[found, suggested[found]]
    return [
        Doubt(int(i), int(labels[i]), int(suggested[i]), float(own[i]), float(wide[i, suggested[i]]))
        for i in found[np.argsort(margins, kind="stable")]
    ]
