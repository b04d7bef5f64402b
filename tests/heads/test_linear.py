import numpy as np
import pytest

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.linear import STRENGTHS, LinearHead, PathSolver, rotate
from tlkeras.heads.search import fit_linear, search_linear


def clusters(count, size, classes, seed=0, distance=1.0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, size)) * distance
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, count - classes)])
    # Columns of very different size: standardisation has to matter.
    features = (centres[labels] + rng.normal(size=(count, size))) * np.geomspace(0.01, 100, size) + 5
    return features.astype(np.float32), labels


def softmax(logits):
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def path(features, labels, classes, strengths=STRENGTHS):
    """A head for each strength, each from where the one before ended."""
    rotated = rotate(features)
    solver = PathSolver(rotated.rows, labels, classes, rotated.spread)
    solved = (solver.solve(strength) for strength in strengths)
    return [rotated.head(one.coefficients, one.intercepts) for one in solved]


@pytest.mark.parametrize(("count", "size", "classes"), [(200, 12, 4), (40, 90, 3), (150, 8, 2), (30, 64, 2)], ids=str)
def test_equals_scikit_learn_for_every_strength(count, size, classes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = clusters(count, size, classes)
    strengths = (1e-3, 1e-2, 0.1, 1.0, 30.0)
    scale = features.astype(np.float64).std(axis=0)
    standard = (features - features.astype(np.float64).mean(axis=0)) / scale
    for strength, head in zip(strengths, path(features, labels, classes, strengths), strict=True):
        oracle = linear_model.LogisticRegression(C=strength, max_iter=20000, tol=1e-8).fit(standard, labels)
        np.testing.assert_allclose(softmax(head.logits(features)), oracle.predict_proba(standard), atol=1e-3)


def test_weak_strengths_fit_better_and_have_larger_weights():
    features, labels = clusters(120, 30, 5, distance=0.5)
    heads = path(features, labels, 5)
    losses = [-np.log(softmax(h.logits(features))[np.arange(120), labels]).mean() for h in heads]
    sizes = [np.linalg.norm(h.weights * features.std(axis=0)[:, None]) for h in heads]
    assert np.all(np.diff(losses) < 0)
    assert np.all(np.diff(sizes) > 0)


def test_strongest_regularisation_predicts_the_class_shares():
    features, labels = clusters(100, 6, 3)
    head = fit_linear(features, labels, 3, 1e-12)
    np.testing.assert_allclose(softmax(head.logits(features)).mean(axis=0), np.bincount(labels) / 100, atol=2e-3)
    assert np.ptp(head.logits(features), axis=0).max() < 1e-3


@pytest.mark.parametrize("shape", [(50, 20), (20, 50)], ids=["tall", "wide"])
def test_rotation_keeps_every_distance(shape):
    features = np.random.default_rng(1).normal(size=shape).astype(np.float32) * 3 + 7
    rotated = rotate(features)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    np.testing.assert_allclose(rotated.rows @ rotated.rows.T, standard @ standard.T, atol=1e-3)
    np.testing.assert_allclose(standard @ rotated.basis, rotated.rows, atol=1e-3)
    np.testing.assert_allclose((rotated.rows**2).mean(axis=0), rotated.spread, rtol=1e-3)
    assert rotated.rows.shape[1] <= min(shape)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e4])
def test_constant_columns_get_no_weight(value):
    features, labels = clusters(60, 6, 3)
    wide = np.concatenate([features, np.full((60, 2), value, np.float32)], axis=1)
    head = fit_linear(wide, labels, 3, 0.1)
    assert np.all(head.weights[6:] == 0)
    np.testing.assert_allclose(head.logits(wide), fit_linear(features, labels, 3, 0.1).logits(features), atol=1e-3)


def test_all_columns_constant_gives_the_class_shares():
    labels = np.array([0, 0, 0, 1])
    head = fit_linear(np.ones((4, 3), np.float32), labels, 2, 1.0)
    np.testing.assert_allclose(softmax(head.logits(np.ones((1, 3)))), [[0.75, 0.25]], atol=1e-3)


def test_class_without_images_is_improbable_and_finite():
    features, labels = clusters(60, 6, 3)
    head = fit_linear(features, labels, 4, 1.0)
    assert np.isfinite(head.weights).all()
    assert np.isfinite(head.bias).all()
    assert softmax(head.logits(features))[:, 3].max() < 0.05


def test_one_image_per_class_and_repeated_rows():
    features = np.array([[0, 1], [1, 0], [1, 0]], np.float32)
    head = fit_linear(features, np.array([0, 1, 1]), 2, 10.0)
    assert head.logits(features).argmax(axis=1).tolist() == [0, 1, 1]


def test_is_deterministic():
    features, labels = clusters(80, 20, 4)
    first, second = (path(features, labels, 4)[-1] for _ in range(2))
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.bias, second.bias)


def test_head_is_a_plain_affine_map():
    head = LinearHead(np.eye(3, 2, dtype=np.float32), np.array([1, -1], np.float32))
    logits = head.logits([[1, 2, 3]])
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, [[2, 1]])


@pytest.mark.parametrize(
    ("features", "labels", "classes", "strengths", "error", "words"),
    [
        (np.ones((3, 2)), [0, 1], 2, [1], DataError, r"shapes \(3, 2\) and \(2,\)"),
        (np.ones((0, 2)), np.zeros(0, int), 2, [1], DataError, "at least one image"),
        (np.ones((2, 2)), [0, 2], 2, [1], DataError, r"0\.\.1; received int64 in 0\.\.2"),
        (np.ones((2, 2)), [0.0, 1.0], 2, [1], DataError, "whole numbers"),
        (np.array([[np.nan, 1], [1, 1]]), [0, 1], 2, [1], DataError, "1 rows with NaN"),
        (np.ones((2, 2)), [0, 0], 1, [1], ConfigError, "two classes"),
        (np.ones((2, 2)), [0, 1], 2, [0], ConfigError, "positive"),
        (np.ones((2, 2)), [0, 1], 2, [], ConfigError, "positive"),
    ],
)
def test_refuses(features, labels, classes, strengths, error, words):
    with pytest.raises(error, match=words):
        search_linear(features, np.asarray(labels), None, None, classes, seed=0, strengths=strengths)


@pytest.mark.parametrize("unit", [1e-18, 1.0, 1e6])
def test_the_size_of_features_does_not_matter(unit):
    # Untrained networks give features of 1e-18; standardised they say as much as any.
    features, labels = clusters(200, 8, 3)
    features = features * np.float32(unit)
    head = fit_linear(features, labels, 3, 0.1)
    assert (head.logits(features).argmax(axis=1) == labels).mean() > 0.9
