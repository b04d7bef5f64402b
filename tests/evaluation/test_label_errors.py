"""Labels in doubt: what was swapped is found, what is merely hard is not."""

import numpy as np
import pytest

from tlkeras.errors import DataError
from tlkeras.evaluation.calibration import expected_calibration_error
from tlkeras.evaluation.label_errors import label_doubts
from tlkeras.evaluation.metrics import Answers
from tlkeras.heads.logits import softmax


def honest(labels, classes, noise, seed=0):
    """Probabilities of a model that is right but for noise in its logits."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, noise, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += 5
    return softmax(logits)


def doubts_of(probabilities, labels, parts=2):
    """``label_doubts`` with the images in some batches."""
    columns = (np.arange(len(labels)), probabilities, labels)
    pieces = zip(*(np.array_split(column, parts) for column in columns), strict=True)
    batches = [piece for piece in pieces if len(piece[0])]
    return label_doubts(lambda: batches)


def test_swapped_labels_are_found_and_no_others():
    true = np.arange(300) % 3
    probabilities = honest(true, 3, noise=0.7)
    labels = true.copy()
    swapped = np.array([0, 50, 100, 151, 202, 299])
    labels[swapped] = (labels[swapped] + 1) % 3
    doubts = doubts_of(probabilities, labels)
    assert sorted(doubt.index for doubt in doubts) == swapped.tolist()
    assert all(doubt.suggested == true[doubt.index] and doubt.label == labels[doubt.index] for doubt in doubts)
    margins = [doubt.suggested_probability - doubt.label_probability for doubt in doubts]
    assert margins == sorted(margins, reverse=True)


def test_an_image_torn_between_classes_is_not_in_doubt():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.45, 0.55], [0.1, 0.9], [0.2, 0.8]])
    # The third looks a little more like class 1, but far less than the images of class 1 do.
    assert doubts_of(probabilities, np.array([0, 0, 0, 1, 1])) == []


def test_a_class_without_images_suggests_nothing():
    probabilities = np.array([[0.1, 0.0, 0.9], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert doubts_of(probabilities, np.array([0, 0, 1])) == []
    assert doubts_of(np.zeros((0, 3)), np.zeros(0, int)) == []
    with pytest.raises(DataError, match="labels"):
        label_doubts(lambda: [(np.arange(3), probabilities, np.array([0, 1]))])


def test_the_record_of_reliability_knows_what_was_before_the_temperature():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (200, 4))
    labels = logits.argmax(axis=1)
    labels[::3] = random.integers(0, 4, len(labels[::3]))
    record = Answers.of(softmax(logits, 2.5), labels, 2.5).reliability(2.5)
    assert record["before"]["ece"] == pytest.approx(expected_calibration_error(softmax(logits), labels), abs=1e-5)
    assert record["after"]["ece"] == pytest.approx(expected_calibration_error(softmax(logits, 2.5), labels), abs=1e-5)
    for when in ("before", "after"):
        bins = record[when]["bins"]
        assert sum(one["images"] for one in bins) == 200
        assert all(one["low"] < one["high"] and 0 <= one["accuracy"] <= 1 for one in bins)
