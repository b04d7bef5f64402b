import json

import numpy as np
import pytest

from tlkeras.errors import ConfigError, DataError
from tlkeras.evaluation.metrics import (
    Answers,
    accuracy_interval,
    evaluate_answers,
    evaluate_probabilities,
    paired_interval,
)

NAMES = ["cat", "dog", "fox"]
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.05, 0.9, 0.05]], np.float32
)
LABELS = np.array([0, 1, 1, 0, 1])


def test_a_case_by_hand():
    result = evaluate_probabilities(PROBABILITIES, LABELS, NAMES, paths=[f"{i}.jpg" for i in range(5)])
    assert result.images == 5
    assert result.accuracy == pytest.approx(3 / 5)
    assert result.mean_per_class_accuracy == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.top5_accuracy is None
    assert result.log_loss == pytest.approx(-np.log([0.7, 0.6, 0.1, 0.2, 0.9]).mean(), rel=1e-6)
    assert result.confusion == ((1, 1, 0), (1, 2, 0), (0, 0, 0))
    cat, dog, fox = result.per_class
    assert (cat.images, cat.precision, cat.recall, cat.f1) == (2, 0.5, 0.5, 0.5)
    assert (dog.precision, dog.recall, dog.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (fox.images, fox.precision, fox.recall, fox.f1) == (0, None, None, None)
    assert [(m.path, m.label, m.predicted) for m in result.mistakes] == [
        ("2.jpg", "dog", "cat"),
        ("3.jpg", "cat", "dog"),
    ]
    assert [m.probability for m in result.mistakes] == pytest.approx([0.8, 0.5])


def test_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 300)
    probabilities = rng.dirichlet(np.ones(8), 300) * 0.6
    probabilities[np.arange(300), labels] += 0.4 * rng.random(300)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    result = evaluate_probabilities(probabilities, labels, [str(i) for i in range(8)])
    predicted = probabilities.argmax(axis=1)
    assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert result.mean_per_class_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert result.log_loss == pytest.approx(metrics.log_loss(labels, probabilities))
    assert result.top5_accuracy == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=5))
    np.testing.assert_array_equal(result.confusion, metrics.confusion_matrix(labels, predicted))
    oracle = metrics.precision_recall_fscore_support(labels, predicted)
    ours = [(c.precision, c.recall, c.f1, c.images) for c in result.per_class]
    np.testing.assert_allclose(ours, np.transpose(oracle))
    assert len(result.mistakes) == 20
    assert np.all(np.diff([m.probability for m in result.mistakes]) <= 0)


def test_top5_breaks_ties_like_argmax():
    flat = np.full((6, 6), 1 / 6)
    result = evaluate_probabilities(flat, np.arange(6), [str(i) for i in range(6)])
    assert result.top5_accuracy == pytest.approx(5 / 6)
    assert result.accuracy == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("right", "count", "expected"),
    [
        (1, 1, (0.2065, 1.0)),
        (0, 1, (0.0, 0.7935)),
        (100, 100, (0.9630, 1.0)),
        (0, 10, (0.0, 0.2775)),
        # Worked out by Wilson's formula.
        (28, 36, (0.6192, 0.8828)),
        (991, 1000, (0.9830, 0.9953)),
    ],
)
def test_interval_is_wilsons(right, count, expected):
    assert accuracy_interval(right, count) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 36, 500])
def test_one_more_right_answer_never_lowers_a_bound(count):
    bounds = np.array([accuracy_interval(right, count) for right in range(count + 1)])
    assert np.all(np.diff(bounds, axis=0) > 0)
    shares = np.arange(count + 1) / count
    assert np.all((bounds[:, 0] <= shares) & (shares <= bounds[:, 1]))
    assert bounds[0, 0] == 0.0
    assert bounds[-1, 1] == 1.0


def test_interval_is_that_of_resampled_photos():
    rng = np.random.default_rng(0)
    one, other = rng.random(300) < 0.8, rng.random(300) < 0.7
    rows = rng.integers(0, 300, (4000, 300))
    expected = np.quantile(one[rows].mean(axis=1) - other[rows].mean(axis=1), [0.025, 0.975])
    np.testing.assert_allclose(paired_interval(one, other), expected, atol=0.012)
    assert paired_interval(one, one) == (0.0, 0.0)


def answers(right, copies=1):
    """So many answers, each of them again for copies of its image."""
    predicted = np.where(np.repeat(right, copies), 0, 1)
    probabilities = np.eye(2)[predicted] * 0.8 + 0.1
    return Answers.of(probabilities, np.zeros(len(predicted), np.int64))


def test_copies_tell_no_more_than_one_of_them():
    right = np.random.default_rng(0).random(200) < 0.8
    single = evaluate_answers(answers(right), ("a", "b"))
    groups = np.repeat(np.arange(200), 5)
    copied = evaluate_answers(answers(right, 5), ("a", "b"), groups=groups)
    np.testing.assert_allclose(copied.accuracy_interval, single.accuracy_interval, atol=1e-3)
    np.testing.assert_allclose(copied.macro_f1_interval, single.macro_f1_interval, atol=5e-3)
    ignored = evaluate_answers(answers(right, 5), ("a", "b")).accuracy_interval
    assert np.ptp(ignored) < 0.5 * np.ptp(copied.accuracy_interval)
    # The limit of resampling whole groups.
    rows = np.random.default_rng(1).integers(0, 200, (4000, 200))
    resampled = np.quantile(right[rows].mean(axis=1), [0.025, 0.975])
    np.testing.assert_allclose(copied.accuracy_interval, resampled, atol=0.02)


@pytest.mark.parametrize("right", [np.ones(40, bool), np.zeros(40, bool)], ids=["all right", "all wrong"])
def test_groups_that_are_all_alike_count_as_so_many_photos(right):
    found = evaluate_answers(answers(right, 3), ("a", "b"), groups=np.repeat(np.arange(40), 3))
    assert found.accuracy_interval == pytest.approx(accuracy_interval(int(right.sum()), 40))


def test_heads_that_err_together_widen_every_interval():
    right = np.random.default_rng(0).random(200) < 0.8
    one, other = (evaluate_answers(answers(right), ("a", "b"), instability=share) for share in (0.0, 1.0))
    for name in ("accuracy_interval", "macro_f1_interval"):
        assert np.ptp(getattr(other, name)) == pytest.approx(np.ptp(getattr(one, name)) * 2**0.5, rel=0.02)
    assert np.ptp(other.per_class[0].recall_interval) > 1.3 * np.ptp(one.per_class[0].recall_interval)


def test_zero_probability_has_a_finite_log_loss():
    result = evaluate_probabilities(np.array([[1.0, 0.0]]), np.array([1]), ["a", "b"])
    assert result.log_loss == pytest.approx(-np.log(np.finfo(np.float64).eps))
    assert result.ece == 1.0


def test_json_has_plain_values_only():
    plain = evaluate_probabilities(PROBABILITIES, LABELS, NAMES).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert {"accuracy", "mean_per_class_accuracy", "log_loss", "ece", "images"} <= set(plain)
    nothing = dict.fromkeys(("precision", "recall", "f1", "recall_interval"))
    assert plain["per_class"][2] == {"class": "fox", "images": 0, **nothing}
    assert plain["folds"] == 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"probabilities": PROBABILITIES[:0], "labels": LABELS[:0]}, DataError, "at least one image"),
        ({"class_names": ["cat"]}, DataError, "3 columns"),
        ({"paths": ["a"]}, DataError, "as many paths; received 1"),
        ({"probabilities": PROBABILITIES * 5}, DataError, "Apply softmax"),
        ({"probabilities": PROBABILITIES - 0.2}, DataError, "sum to 1"),
        ({"labels": LABELS + 2}, DataError, r"0\.\.2"),
        ({"labels": LABELS[:2]}, DataError, "shapes"),
        ({"bins": 0}, ConfigError, "bin"),
    ],
)
def test_refuses(change, error, words):
    options = {"probabilities": PROBABILITIES, "labels": LABELS, "class_names": NAMES} | change
    with pytest.raises(error, match=words):
        evaluate_probabilities(**options)


def test_answers_in_batches_measure_the_same_as_the_whole_table():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, 90)
    probabilities = np.round(rng.dirichlet(np.full(7, 0.5), 90), 2) + 0.01  # some are equal
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    order = rng.permutation(90)
    batches = [Answers.of(probabilities[rows], labels[rows], 1.7) for rows in np.array_split(order, 4)]
    answers = Answers.joined(batches).in_order(order)
    names = [str(i) for i in range(7)]
    assert evaluate_answers(answers, names) == evaluate_probabilities(probabilities, labels, names)
    assert answers.reliability(1.7) == Answers.of(probabilities, labels, 1.7).reliability(1.7)
