import numpy as np
import pytest

from tests.heads.test_linear import clusters
from tlkeras.errors import DataError
from tlkeras.heads import search
from tlkeras.heads.folds import assign_folds
from tlkeras.heads.search import fit_linear, search_linear


def log_loss(logits, labels):
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def test_folds_share_every_class_evenly():
    labels = np.repeat([0, 1, 2], [50, 23, 3])
    folds = assign_folds(labels, seed=1)
    for label, images in enumerate([50, 23, 3]):
        per_fold = np.bincount(folds[labels == label], minlength=5)
        assert per_fold.sum() == images
        assert np.ptp(per_fold) <= 1
    assert np.ptp(np.bincount(folds)) <= 1


def test_folds_keep_groups_together():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 120)
    labels = groups % 4
    folds = assign_folds(labels, seed=2, groups=groups)
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    assert set(folds) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("labels", "groups", "expected"),
    [
        ([0, 1, 2], None, [-1, -1, -1]),
        ([0, 0, 1], None, [{0, 1}, {0, 1}, -1]),
        ([0, 0, 1, 1], [7, 7, 8, 9], [-1, -1, {0, 1}, {0, 1}]),
    ],
)
def test_lone_images_and_groups_are_never_held_out(labels, groups, expected):
    folds = assign_folds(np.array(labels), seed=0, groups=None if groups is None else np.array(groups))
    for fold, wanted in zip(folds.tolist(), expected, strict=True):
        assert fold in wanted if isinstance(wanted, set) else fold == wanted
    assert sorted(set(folds.tolist()) - {-1}) == list(range(folds.max() + 1))


def test_folds_depend_on_the_seed_alone():
    labels = np.arange(60) % 3
    assert assign_folds(labels, 1).tolist() == assign_folds(labels, 1).tolist()
    assert assign_folds(labels, 1).tolist() != assign_folds(labels, 2).tolist()


def test_large_validation_set_is_the_held_out_set():
    features, labels = clusters(1600, 10, 3, distance=0.5)
    result = search_linear(features[:500], labels[:500], features[500:], labels[500:], 3, seed=0)
    np.testing.assert_array_equal(result.held_out_indices, np.arange(500, 1600))
    np.testing.assert_array_equal(result.held_out_labels, labels[500:])
    row = next(row for row in result.curve if row["strength"] == result.strength)
    assert row["log_loss"] == min(r["log_loss"] for r in result.curve)
    assert row["log_loss"] == pytest.approx(log_loss(result.held_out_logits, result.held_out_labels))
    both = fit_linear(features, labels, 3, result.strength)
    np.testing.assert_allclose(result.head.logits(features), both.logits(features), atol=1e-2)


def test_validation_labels_do_not_touch_the_held_out_logits():
    features, labels = clusters(1600, 10, 3, distance=0.5)
    one, other = (
        search_linear(features[:500], labels[:500], features[500:], shown, 3, seed=0, strengths=[0.1])
        for shown in (labels[500:], (labels[500:] + 1) % 3)
    )
    np.testing.assert_array_equal(one.held_out_logits, other.held_out_logits)
    assert np.abs(one.head.weights - other.head.weights).max() > 0.01 * np.abs(one.head.weights).max()


@pytest.mark.parametrize("validation", [0, 60], ids=["none", "few"])
def test_small_data_is_cross_validated_on_all_of_it(validation):
    features, labels = clusters(200, 10, 4)
    cut = 200 - validation
    parts = (features[cut:], labels[cut:]) if validation else (None, None)
    result = search_linear(features[:cut], labels[:cut], *parts, 4, seed=3)
    np.testing.assert_array_equal(result.held_out_indices, np.arange(200))
    np.testing.assert_array_equal(result.held_out_labels, labels)
    assert np.mean(result.held_out_logits.argmax(axis=1) == labels) > 0.85


def test_held_out_logits_have_not_seen_their_labels():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(150, 200)).astype(np.float32)
    labels = np.arange(150) % 3
    result = search_linear(features, labels, None, None, 3, seed=0, strengths=[10.0])
    assert np.mean(result.head.logits(features).argmax(axis=1) == labels) == 1.0
    assert np.mean(result.held_out_logits.argmax(axis=1) == labels) < 0.5


def test_duplicates_in_groups_do_not_leak():
    rng = np.random.default_rng(0)
    features = np.tile(rng.normal(size=(60, 100)), (2, 1)).astype(np.float32)
    labels = np.tile(np.arange(60) % 3, 2)
    groups = np.tile(np.arange(60), 2)
    apart = search_linear(features, labels, None, None, 3, seed=0, strengths=[10.0])
    together = search_linear(features, labels, None, None, 3, seed=0, groups=groups, strengths=[10.0])
    assert apart.curve[0]["accuracy"] > 0.7
    assert together.curve[0]["accuracy"] < 0.55


def test_the_path_ends_early_when_the_loss_grows():
    # Noise: any weight makes the held-out loss worse.
    features = np.random.default_rng(0).normal(size=(200, 50)).astype(np.float32)
    result = search_linear(features, np.arange(200) % 2, None, None, 2, seed=0)
    assert len(result.curve) < len(search.STRENGTHS)
    assert result.strength == min(result.curve, key=lambda row: row["log_loss"])["strength"]
    assert result.strength < 0.01


@pytest.mark.parametrize("counts", [(1, 1), (1, 30), (2, 2), (1, 2, 40), (0, 20, 20)], ids=str)
def test_tiny_and_uneven_classes(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(0).normal(size=(len(labels), 8)).astype(np.float32)
    features[np.arange(len(labels)), labels] += 6
    result = search_linear(features, labels, None, None, len(counts), seed=0)
    lone = {label for label, count in enumerate(counts) if count == 1}
    assert result.held_out_indices.tolist() == [i for i, label in enumerate(labels) if label not in lone]
    assert result.held_out_logits.shape == (len(result.held_out_indices), len(counts))
    assert np.isfinite(result.head.weights).all()


def test_same_seed_same_head():
    features, labels = clusters(100, 20, 3)
    first, second = (search_linear(features, labels, None, None, 3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.head.weights, second.head.weights)
    np.testing.assert_array_equal(first.held_out_logits, second.held_out_logits)


@pytest.mark.parametrize(
    ("val_size", "groups", "words"),
    [(5, None, "same number of features; received 4 and 5"), (4, np.zeros(3), "groups must have one number")],
)
def test_refuses(val_size, groups, words):
    labels = np.array([0, 1, 0, 1])
    with pytest.raises(DataError, match=words):
        search_linear(np.ones((4, 4)), labels, np.ones((4, val_size)), labels, 2, 0, groups)
