import numpy as np
import pytest

from tests.heads.test_logits import sampled
from tlkeras.errors import ConfigError
from tlkeras.evaluation.calibration import expected_calibration_error, reliability
from tlkeras.heads.logits import fit_temperature, softmax


def test_temperature_lowers_the_calibration_error():
    logits, labels = sampled(5000, 4.0)
    before = expected_calibration_error(softmax(logits), labels)
    after = expected_calibration_error(softmax(logits, fit_temperature(logits, labels)), labels)
    assert before > 0.15
    assert after < 0.03


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


def test_a_plot_has_bins():
    with pytest.raises(ConfigError, match="at least one bin"):
        reliability(np.ones((1, 1)), np.zeros(1, int), 0)
