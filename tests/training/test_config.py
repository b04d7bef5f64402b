"""What a run was asked to do."""

from __future__ import annotations

import pytest

from tlkeras.choosing.compare import CompareConfig
from tlkeras.errors import ConfigError
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.heads.config import HeadConfig
from tlkeras.training.config import TrainConfig


@pytest.mark.parametrize(
    ("backbone", "asked", "kept"),
    [
        ("mobilenet_v2", "auto", "stretch"),
        ("tlkeras_tiny", "auto", "crop"),
        ("tlkeras_tiny", "pad", "pad"),
        ("vgg16", "crop", "crop"),
    ],
)
def test_photos_become_square_as_the_backbone_wants_unless_told_otherwise(backbone, asked, kept):
    assert TrainConfig(backbone, fit=asked).fit == kept
    assert TrainConfig(backbone, fit=asked).to_json()["fit"] == kept


def test_a_comparison_makes_photos_square_as_training_does():
    found = CompareConfig(("tlkeras_tiny", "mobilenet_v2"))
    assert [found.recipe(name).fit for name in found.backbones] == ["crop", "stretch"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"balance": "clases"},
        {"balance": "classes", "head": HeadConfig("mlp")},
        {"balance": "classes", "fine_tune": FineTuneConfig(epochs=1)},
        {"fit": "squeeze"},
        {"seed": -1},
        {"test_fraction": 0.6},
        {"validation_fraction": 0.0},
        {"size_px": 8},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ConfigError):
        TrainConfig("mobilenet_v2", **wrong)


def test_a_fit_that_there_is_not_is_told_all_that_there_are():
    with pytest.raises(ConfigError, match="unknown fit 'strech'; did you mean 'stretch'"):
        TrainConfig("mobilenet_v2", fit="strech")
    with pytest.raises(ConfigError, match="known are auto, crop, stretch, pad"):
        TrainConfig("mobilenet_v2", fit="wide")
