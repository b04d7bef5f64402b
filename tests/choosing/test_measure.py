import csv

import numpy as np
import pytest

from tlkeras.choosing.measure import audited, milliseconds, stratified
from tlkeras.data.open import open_dataset
from tlkeras.progress import Silent
from tlkeras.training.config import TrainConfig


def test_time_is_that_of_one_image():
    def slow(rows):
        import time

        time.sleep(0.02 * len(rows))
        return rows

    assert milliseconds(slow, np.zeros((2, 4, 4, 3)), 4) == pytest.approx(20, rel=0.5)


def test_classes_keep_their_shares():
    labels = np.repeat([0, 1, 2], [600, 300, 8])
    chosen = stratified(labels, 90, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [59, 30, 5]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert stratified(labels, 90, seed=0).tolist() == chosen.tolist()
    assert stratified(labels, 90, seed=1).tolist() != chosen.tolist()
    assert len(stratified(labels, 908, seed=0)) == 908


def test_splits_are_those_of_training(photo_folder, run_folder):
    photos = audited(open_dataset(photo_folder), TrainConfig(test_fraction=0.15), Silent())
    with (run_folder / "splits.csv").open(newline="") as file:
        trained = {row["path"]: row["split"] for row in csv.DictReader(file)}
    assert dict(zip(photos.images.paths, photos.images.splits.tolist(), strict=True)) == trained
    rest = photos.in_splits("train", "validation")
    assert len(rest) == sum(split != "test" for split in trained.values())
    assert [verdict.path for verdict in rest.verdicts] == list(rest.images.paths)
    assert len(rest.groups) == len(rest)


@pytest.mark.parametrize("least", [1, 3])
def test_small_classes_keep_what_they_need(least):
    labels = np.repeat([0, 1], [1000, 2])
    chosen = stratified(labels, 20, seed=0, least=least)
    assert (labels[chosen] == 1).sum() == min(least, 2)
