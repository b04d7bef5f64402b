"""Splits: stratified, seeded, stable when photos are added, and copies stay together."""

import numpy as np
import pytest

from tlkeras.data.dataset import LabelledImages
from tlkeras.data.splits import split
from tlkeras.errors import ConfigError, DataError


def made(counts, splits=None):
    labels = np.repeat(np.arange(len(counts)), counts)
    paths = tuple(f"{label}/{i}.jpg" for i, label in enumerate(labels))
    given = np.full(len(labels), "") if splits is None else np.asarray(splits)
    return LabelledImages("x", "x", tuple("abcdefghij"[: len(counts)]), paths, labels, given)


def alone(dataset):
    return np.arange(len(dataset))


def test_shares_are_kept_in_every_class():
    images = split(made([200, 100, 20]), alone(made([200, 100, 20])))
    for label, count in enumerate((200, 100, 20)):
        own = images.splits[images.labels == label]
        assert (own == "test").sum() == round(0.15 * count)
        assert (own == "validation").sum() == round(0.15 * count)
    assert not (images.splits == "").any()


def test_seeds():
    dataset = made([50, 50])
    one, same, other = (split(dataset, alone(dataset), seed=seed).splits for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_the_order_of_files_does_not_matter():
    dataset = made([40, 40])
    order = np.random.default_rng(0).permutation(len(dataset))
    keys = [f"sha {path}" for path in dataset.paths]
    straight = split(dataset, alone(dataset), keys=keys).splits
    shuffled = split(dataset.subset(order), alone(dataset), keys=[keys[i] for i in order]).splits
    np.testing.assert_array_equal(straight[order], shuffled)


def test_new_photos_leave_old_ones_where_they_were():
    more = made([220, 220])
    old = np.flatnonzero(np.r_[np.arange(220) < 200, np.arange(220) < 200])
    keys = [f"sha {path}" for path in more.paths]
    before = split(more.subset(old), np.arange(400), keys=[keys[i] for i in old]).splits
    after = split(more, alone(more), keys=keys).splits[old]
    assert (before == after).mean() > 0.95


def test_copies_stay_together():
    dataset = made([60, 60])
    groups = np.arange(len(dataset)) // 3
    images = split(dataset, groups)
    for group in np.unique(groups):
        assert len(set(images.splits[groups == group])) == 1
    assert {"train", "validation", "test"} == set(images.splits)


def test_given_splits_stay_and_missing_ones_are_carved_from_train():
    given = ["train"] * 20 + ["test"] * 5 + ["train"] * 20 + ["test"] * 5
    dataset = made([25, 25], given)
    images = split(dataset, alone(dataset))
    np.testing.assert_array_equal(images.splits == "test", dataset.splits == "test")
    assert (images.splits == "validation").sum() == 6
    whole = made([3, 3], ["train", "validation", "test"] * 2)
    np.testing.assert_array_equal(split(whole, alone(whole)).splits, whole.splits)


def test_no_test_split_when_none_is_wanted():
    dataset = made([20, 20])
    assert set(split(dataset, alone(dataset), hold_out_test=False).splits) == {"train", "validation"}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_small_classes_keep_an_image_for_training(count):
    dataset = made([30, count])
    images = split(dataset, alone(dataset))
    assert (images.splits[images.labels == 1] == "train").sum() >= 1


def test_a_class_with_one_photo_is_told():
    dataset = made([30, 1])
    with pytest.raises(DataError, match="'b'"):
        split(dataset, alone(dataset))


@pytest.mark.parametrize("options", [{"test_fraction": 0}, {"validation_fraction": 1.5}, {"test_fraction": -0.1}])
def test_impossible_shares(options):
    dataset = made([30, 30])
    with pytest.raises(ConfigError, match="fraction"):
        split(dataset, alone(dataset), **options)
