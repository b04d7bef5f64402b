"""LogME: how well a network's features fit the labels, without training anything.

You, Liu, Wang and Long 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning": each class
against the rest is a Bayesian linear regression of 0/1 on the features, with a prior precision α for the weights and
a noise precision β. The evidence p(y | F), maximised over both, punishes features that need large weights, so it
cannot be overfitted as training accuracy can. The score is the mean log evidence per image and class; higher is
better, and only scores on the same images can be compared.

The paper climbs by a fixed point, which can take thousands of steps or stop early. Here the best β for a given ratio
α / β is written down, and the ratio is searched along a line.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.optimize

from tlkeras.heads.linear import check_training_rows

# How far from the largest eigenvalue the ratio is searched.
_DECADES = 8
# Below this share of the largest eigenvalue there is rounding only.
_RANK_SHARE = 1e-12
_TINY = 1e-30


def logme(features: np.ndarray, labels: np.ndarray, class_count: int) -> float:
    """The LogME score, in nats per image and class, of features float [N, D] for labels int [N].

    Classes without images are left out.

    Raises:
        DataError: features and labels that do not fit each other or are not finite.
        ConfigError: fewer than two classes.
    """
    features, labels = check_training_rows(features, labels, class_count)
    wide = features.astype(np.float64)
    count, size = wide.shape
    gram = wide @ wide.T if count <= size else wide.T @ wide
    values, vectors = scipy.linalg.eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
    kept = values > _RANK_SHARE * max(float(values[-1]), 1e-30)
    values, vectors = values[kept], vectors[:, kept]
    left = vectors if count <= size else (wide @ vectors) / np.sqrt(values)
    scores = []
    for label in np.unique(labels):
        target = (labels == label).astype(np.float64)
        scores.append(_evidence(values, left.T @ target, float(target @ target), count) / count)
    return float(np.mean(scores))


def _evidence(values: np.ndarray, projected: np.ndarray, square: float, count: int) -> float:
    """The largest log evidence of one target.

    ``values`` [R]: eigenvalues of FᵀF; ``projected`` [R]: the target on the left singular vectors; ``square``: its
    squared length. What lies outside of those vectors cannot be explained.
    """
    outside = max(square - float(projected @ projected), 0.0)
    squares = np.square(projected)

    def negative(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        # yᵀ (I + F Fᵀ / ratio)⁻¹ y; the best β is count over it.
        misfit = float(squares @ (ratio / (ratio + values))) + outside
        log_determinant = float(np.log1p(values / ratio).sum())
        return 0.5 * (count * np.log(2 * np.pi * max(misfit, _TINY) / count) + count + log_determinant)

    middle = np.log(values[-1]) if len(values) else 0.0
    grid = np.linspace(middle - _DECADES * np.log(10), middle + _DECADES * np.log(10), 20 * _DECADES + 1)
    best = int(np.argmin([negative(place) for place in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = scipy.optimize.minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return -float(found.fun)
