"""Classes of unequal size: every class counts the same in the loss where asked for, or where that is better."""

import numpy as np
import pytest

from tests.heads.test_linear import clusters
from tlkeras.errors import ConfigError
from tlkeras.heads.linear import PathSolver, rotate
from tlkeras.heads.search import class_weights, search_linear


def uneven(counts, seed=0, size=12):
    """Training and new images of classes that overlap: features and labels of both."""
    random = np.random.default_rng(seed)
    means = np.zeros((len(counts), size))
    means[np.arange(len(counts)), np.arange(len(counts))] = 1.6
    parts = []
    for of in (np.repeat(np.arange(len(counts)), counts), np.arange(3000) % len(counts)):
        parts += [(random.normal(size=(len(of), size)) + means[of]).astype(np.float32), of]
    return parts


def test_weights_do_what_copies_of_images_would():
    features, labels, *_ = uneven((10, 30))
    rotated = rotate(features)
    weighted = PathSolver(rotated.rows, labels, 2, rotated.spread, weights=class_weights(labels)).solve(0.1)
    again = np.concatenate([np.arange(40), *[np.flatnonzero(labels == 0)] * 2])
    # The strength is of the sum over images, of which there are half as many again.
    copied = PathSolver(rotated.rows[again], labels[again], 2, rotated.spread).solve(0.1 * 40 / 60)
    np.testing.assert_allclose(weighted.coefficients, copied.coefficients, atol=1e-4)
    assert weighted.converged


@pytest.mark.parametrize("crossed", [False, True], ids=["folds", "nested"])
def test_a_small_class_is_found_where_classes_count_the_same(crossed):
    features, labels, new, truth = uneven((300, 12))
    recalls, found = {}, {}
    for balance in ("none", "classes", "auto"):
        made = search_linear(
            features, labels, None, None, 2, 0, balance=balance, crossed=crossed, strengths=(1e-3, 0.1)
        )
        answers = made.head.logits(new).argmax(axis=1)
        recalls[balance] = np.mean([np.mean(answers[truth == label] == label) for label in (0, 1)])
        found[balance] = made.balance
    assert recalls["classes"] > recalls["none"] + 0.1
    assert found == {"none": "none", "classes": "classes", "auto": "classes"}
    assert recalls["auto"] == recalls["classes"]


def test_classes_of_like_size_are_left_alone():
    features, labels = clusters(90, 10, 3)
    made = [search_linear(features, labels, None, None, 3, 0, balance=balance) for balance in ("none", "auto")]
    assert [one.balance for one in made] == ["none", "none"]
    np.testing.assert_array_equal(made[0].head.weights, made[1].head.weights)


def test_one_image_a_class_can_be_balanced():
    made = search_linear(np.eye(3, dtype=np.float32), np.arange(3), None, None, 3, 0, balance="classes", crossed=True)
    assert made.balance == "classes"


def test_an_unknown_balance_is_refused():
    with pytest.raises(ConfigError, match="unknown balance 'clases'; did you mean 'classes'"):
        search_linear(*clusters(20, 4, 2), None, None, 2, 0, balance="clases")
