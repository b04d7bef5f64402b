"""What fine-tuning is measured against: heads that did not see the validation photos that they are asked about."""

from dataclasses import replace

import numpy as np
import pytest

from tlkeras.data.dataset import LabelledImages
from tlkeras.fine_tuning.start import logits_on_validation, starting_weights
from tlkeras.heads.config import HeadConfig
from tlkeras.heads.train import train_head
from tlkeras.predictor import head_in_numpy
from tlkeras.progress import Silent

COUNT, TRAINED = 120, 90


@pytest.fixture(scope="module")
def frozen():
    """Features of three classes that overlap, a head on them, and the photos that they stand for."""
    labels = np.arange(COUNT) % 3
    features = np.random.default_rng(0).normal(size=(COUNT, 8)) + 1.5 * np.eye(3, 8)[labels]
    splits = np.where(np.arange(COUNT) < TRAINED, "train", "validation")
    images = LabelledImages("three", "three", ("a", "b", "c"), tuple(map(str, range(COUNT))), labels, splits)
    features = features.astype(np.float32)
    parts = [(features[rows], labels[rows]) for rows in (slice(None, TRAINED), slice(TRAINED, None))]
    head = train_head(HeadConfig(), *parts, 3, seed=0, groups=np.arange(COUNT), reporter=Silent())
    return head, images, features


def asked(frozen, images, **options):
    head, _, features = frozen
    return logits_on_validation(head, images, np.arange(COUNT), features, seed=0, **options)


def relabelled(images, rows):
    labels = images.labels.copy()
    labels[rows] = (labels[rows] + 1) % 3
    return replace(images, labels=labels)


def test_the_head_to_start_from_has_seen_the_training_photos_alone(frozen):
    head, images, features = frozen
    expected = head_in_numpy(head.config, starting_weights(head, images, features))(features[TRAINED:])
    np.testing.assert_array_equal(asked(frozen, images, refitted=False), expected)
    # Whatever the labels of validation are, its answers are the same.
    np.testing.assert_array_equal(asked(frozen, relabelled(images, slice(TRAINED, None)), refitted=False), expected)
    assert not np.array_equal(asked(frozen, relabelled(images, slice(0, 5)), refitted=False), expected)


def test_a_refitted_head_has_seen_all_photos_but_those_that_it_is_asked_about(frozen):
    _, images, _ = frozen
    before = asked(frozen, images, refitted=True)
    after = asked(frozen, relabelled(images, slice(TRAINED, TRAINED + 1)), refitted=True)
    same = np.array([np.array_equal(one, other) for one, other in zip(before, after, strict=True)])
    # The photo with the other label, and those of its fold, are answered as before; all others by other heads.
    assert same[0]
    assert 1 <= same.sum() <= 1 + (COUNT - TRAINED) // 5
