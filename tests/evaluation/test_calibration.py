import numpy as np
import pytest

from tlkeras.errors import ConfigError, DataError
from tlkeras.evaluation.calibration import expected_calibration_error, fit_temperature, reliability, softmax


def sampled(count, temperature, seed=0):
    """Labels drawn from softmax(true logits); the logits given are ``temperature`` times too large."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(count, 4)) * 2
    cumulative = np.cumsum(softmax(true), axis=1)
    labels = (rng.random((count, 1)) > cumulative[:, :-1]).sum(axis=1)
    return true * temperature, labels


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 3.0, 8.0])
def test_finds_the_temperature_that_the_logits_were_made_with(temperature):
    assert fit_temperature(*sampled(20000, temperature)) == pytest.approx(temperature, rel=0.04)


def test_temperature_lowers_the_calibration_error():
    logits, labels = sampled(5000, 4.0)
    before = expected_calibration_error(softmax(logits), labels)
    after = expected_calibration_error(softmax(logits, fit_temperature(logits, labels)), labels)
    assert before > 0.15
    assert after < 0.03


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), 1.0),
        (np.zeros((4, 3)), [0, 1, 2, 0], 1.0),
        ([[1.0, 0.0]], [0], 0.05),
        ([[1.0, 0.0]], [1], 20.0),
        ([[1e4, 0.0], [0.0, 1e4]], [0, 0], 20.0),
    ],
    ids=["none", "no information", "always right", "always wrong", "huge logits"],
)
def test_few_images(logits, labels, expected):
    assert fit_temperature(np.asarray(logits), np.asarray(labels)) == pytest.approx(expected, rel=1e-2)


def test_softmax_is_stable_float32():
    probabilities = softmax(np.array([[1e5, 0.0, -1e5], [0.0, np.log(3.0), -1e9]]))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, [[1, 0, 0], [0.25, 0.75, 0]], atol=1e-7)
    np.testing.assert_allclose(softmax(np.array([[0.0, 2 * np.log(3.0)]]), 2.0), [[0.25, 0.75]], atol=1e-7)


def test_calibration_error_of_a_case_by_hand():
    # Two bins: (0, .5] empty; (.5, 1] confidence .8 and accuracy 2/4.
    confidence = np.array([0.7, 0.8, 0.8, 0.9])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 1, 1])
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(0.3)
    # Ten bins (low, high]: .7 right, .8 half right, .9 wrong.
    assert expected_calibration_error(probabilities, labels, bins=10) == pytest.approx((0.3 + 2 * 0.3 + 0.9) / 4)


def test_reliability_counts_every_image_once():
    logits, labels = sampled(500, 1.0)
    bars = reliability(softmax(logits), labels, bins=15)
    assert bars.counts.sum() == 500
    assert len(bars.edges) == 16
    full = bars.counts > 0
    assert np.all(bars.confidence[full] > bars.edges[:-1][full])
    assert np.all(bars.confidence[full] <= bars.edges[1:][full] + 1e-12)
    right = np.mean(softmax(logits).argmax(axis=1) == labels)
    assert bars.accuracy @ bars.counts / 500 == pytest.approx(right)


def test_certain_predictions_fall_into_the_last_bin():
    bars = reliability(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), bins=3)
    assert bars.counts.tolist() == [0, 0, 2]
    assert bars.accuracy.tolist() == [0, 0, 0.5]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: softmax(np.zeros((1, 2)), 0.0), ConfigError, "positive"),
        (lambda: softmax(np.zeros((1, 2)), float("inf")), ConfigError, "finite"),
        (lambda: reliability(np.ones((1, 1)), np.zeros(1, int), 0), ConfigError, "at least one bin"),
        (lambda: fit_temperature(np.zeros((2, 2)), np.zeros(3, int)), DataError, "shapes"),
        (lambda: fit_temperature(np.full((1, 2), np.nan), np.zeros(1, int)), DataError, "finite"),
        (lambda: fit_temperature(np.zeros((1, 2)), np.array([2])), DataError, r"0\.\.1"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()
