import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from tests.heads.test_linear import clusters
from tlkeras.errors import DataError
from tlkeras.evaluation.logme import logme


def best_evidence(features, labels):
    """The definition itself: a Gaussian with covariance I / beta + F Fᵀ / alpha, its two precisions optimised."""
    features = features.astype(np.float64)
    scores = []
    for label in np.unique(labels):
        target = (labels == label).astype(float)

        def negative(logs, target=target):
            alpha, beta = np.exp(logs)
            covariance = np.eye(len(target)) / beta + features @ features.T / alpha
            return -scipy.stats.multivariate_normal.logpdf(target, cov=covariance) / len(target)

        starts = [(0, 0), (6, 2), (-3, 2), (10, 10)]
        scores.append(-min(scipy.optimize.minimize(negative, s, method="Nelder-Mead").fun for s in starts))
    return np.mean(scores)


@pytest.mark.parametrize(("count", "size"), [(40, 6), (25, 60)], ids=["tall", "wide"])
def test_is_the_largest_evidence(count, size):
    features, labels = clusters(count, size, 3)
    features = features / features.std(axis=0)
    assert logme(features, labels, 3) == pytest.approx(best_evidence(features, labels), abs=2e-3)


def test_ranks_features_by_what_they_tell():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    scores = []
    for signal in (0.0, 0.5, 1.0, 3.0):
        features = rng.normal(size=(300, 50))
        features[:, :3] += signal * np.eye(3)[labels]
        scores.append(logme(features, labels, 3))
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.3


def test_is_not_fooled_by_features_that_could_fit_anything():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 2
    telling = rng.normal(size=(100, 5))
    telling[:, 0] += 2 * labels
    noise = rng.normal(size=(100, 400))  # separates any labels of these images perfectly
    assert logme(telling, labels, 2) > logme(noise, labels, 2) + 0.1


def test_does_not_depend_on_the_size_of_the_features():
    features, labels = clusters(60, 10, 3)
    assert logme(features * 1e-4, labels, 3) == pytest.approx(logme(features * 1e3, labels, 3), abs=1e-6)


def test_dead_features_and_missing_classes_have_a_score():
    assert np.isfinite(logme(np.zeros((10, 4)), np.arange(10) % 2, 2))
    assert np.isfinite(logme(np.random.default_rng(0).normal(size=(10, 4)), np.arange(10) % 2, 5))


def test_refuses_features_that_are_not_finite():
    with pytest.raises(DataError, match="must be finite"):
        logme(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), 2)
