"""Few-shot curves on small pictures."""

import pytest

from tlkeras.choosing.few_shot import few_shot
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError
from tlkeras.progress import Silent
from tlkeras.training.config import TrainConfig


def test_curve_goes_from_few_to_all(curve):
    assert [point.per_class for point in curve.points] == [1, 5, None]  # no class has 500
    assert [point.images for point in curve.points] == [2, 10, 52]
    assert [len(point.accuracies) for point in curve.points] == [3, 3, 1]
    assert curve.points[-1].mean == 1.0
    assert curve.test_images == 8
    assert curve.extraction.computed + curve.extraction.reused == 60


def test_draws_follow_the_seed(curve, photo_folder, small_weights):
    config = TrainConfig("mobilenet_0.25", weights=str(small_weights), size_px=32, engine="tensorflow")
    again = few_shot(config, open_dataset(photo_folder), Silent(), shots=(5, 1), draws=3)
    assert [point.accuracies for point in again.points[:2]] == [point.accuracies for point in curve.points[:2]]


def test_small_classes_give_what_they_have(photo_folder, small_weights):
    dataset = open_dataset(photo_folder)
    few = dataset.subset([i for i, path in enumerate(dataset.paths) if "blue" in path or path[-5] in "02"])
    config = TrainConfig("mobilenet_0.25", weights=str(small_weights), size_px=32, engine="tensorflow")
    point = few_shot(config, few, Silent(), shots=(20,), draws=1).points[0]
    assert point.short_classes == 1
    assert 20 < point.images < 30


@pytest.mark.parametrize(("options", "words"), [({"shots": (0,)}, "received 0"), ({"draws": 0}, "at least one draw")])
def test_curve_refuses(options, words, photo_folder):
    with pytest.raises(ConfigError, match=words):
        few_shot(TrainConfig("tlkeras_tiny"), open_dataset(photo_folder), Silent(), **options)
