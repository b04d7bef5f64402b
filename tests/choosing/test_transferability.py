import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from tests.choosing.measured import measured
from tests.heads.test_linear import clusters
from tlkeras import backbones
from tlkeras.backbones.network import random_twin
from tlkeras.choosing.transferability import label_agreement, logme, statistics_shift, transferability
from tlkeras.errors import DataError


@pytest.mark.parametrize(
    ("hits", "random", "shift", "verdict", "distance", "said", "unsaid"),
    [
        (390, 150, 0.01, "well", "near", ["Yes: ", "look like those"], ["helps", "may still help"]),
        (396, 160, 0.25, "well", "far", ["Yes: ", "far from", "yet its features", "may still help: fine-tuning"], []),
        (220, 130, 0.07, "partly", "between", ["In part: ", "somewhat unlike", "What helps: fine-tuning deeper"], []),
        (104, 100, 0.40, "badly", "far", ["No: ", "far from", "What helps", "people can tell"], ["yet its features"]),
        # Both are good: pretraining brings nothing all the same.
        (390, 388, None, "badly", None, ["No: ", "What helps"], ["nats"]),
        (90, 120, 0.01, "badly", "near", ["No: "], []),
    ],
)
def test_words_follow_the_figures(hits, random, shift, verdict, distance, said, unsaid):
    found = transferability(measured("net", hits, 1.0, random=random, shift=shift), 230.0)
    assert (found.verdict, found.distance) == (verdict, distance)
    assert all(words in found.words for words in said)
    assert not any(words in found.words for words in unsaid)
    assert found.gain == pytest.approx((hits - random) / 400)


@pytest.mark.parametrize(
    ("side", "advice"), [(500.0, "--size 448"), (320.0, "--size 320"), (230.0, None), (96.0, None)]
)
def test_a_larger_input_is_advised_only_where_the_photos_have_it(side, advice):
    words = transferability(measured("net", 110, 1.0), side).words
    assert ("--size" in words) == (advice is not None)
    assert advice is None or advice in words


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)


def test_twin_is_random_lets_images_through_and_follows_its_seed(pixels):
    one, same, other = (random_twin("mobilenet_0.25", pixels, seed=seed) for seed in (1, 1, 2))
    features = one(pixels, training=False).numpy()
    assert 0.01 < np.abs(features).max() < 1e3
    assert features.std(axis=0).max() > 1e-3
    np.testing.assert_array_equal(features, same(pixels, training=False).numpy())
    assert backbones.weights_sha256(one) != backbones.weights_sha256(other)


def test_shift_is_nothing_for_a_network_s_own_photos(pixels):
    own = random_twin("mobilenet_0.25", pixels)
    assert statistics_shift(own, pixels) < 0.01
    assert statistics_shift(own, pixels * 0.2) > 0.1


def test_shift_needs_batch_normalisation(pixels):
    assert statistics_shift(backbones.build("vgg16", "none", size_px=32), pixels) is None


def test_agreement_is_one_for_clear_classes_and_chance_for_noise():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 100])
    clear = rng.normal(size=(400, 8)) * 0.1
    clear[np.arange(400), labels] += 1
    assert label_agreement(clear, labels, 2) == 1.0
    noise = rng.normal(size=(400, 8))
    assert label_agreement(noise, labels, 2) == pytest.approx(0.75**2 + 0.25**2, abs=0.05)


def test_copies_do_not_agree_with_each_other():
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(100, 16)), 2, axis=0)
    labels = np.repeat(np.arange(100) % 2, 2)
    groups = np.repeat(np.arange(100), 2)
    assert label_agreement(features, labels, 2, k=1) == 1.0
    assert label_agreement(features, labels, 2, k=1, groups=groups) < 0.65


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
