"""Options that cannot be are refused by name."""

import json

import pytest

from tlkeras.errors import ConfigError
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.heads.config import HeadConfig
from tlkeras.training.config import TrainConfig


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1; received 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"unfreeze": "most"}, "unfreeze must be 'all' or a number"),
        ({"unfreeze": -1}, "unfreeze"),
        ({"augment": "ligth"}, "did you mean 'light'"),
        ({"ema": 1.0}, "ema"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"rate_decay": 0.0}, "rate_decay"),
        ({"clip_norm": float("inf")}, "clip_norm"),
        ({"devices": ("cpu:0", "cpu:0")}, "each device is named once"),
        ({"devices": ("cpu:0", "cpu:1"), "batch_size": 7}, "share equally; received 7"),
    ],
)
def test_impossible_options(options, words):
    with pytest.raises(ConfigError, match=words):
        FineTuneConfig(**options)


def test_a_config_survives_json():
    config = TrainConfig(
        "tlkeras_tiny", head=HeadConfig("mlp", (8, 4)), fine_tune=FineTuneConfig(unfreeze=2, devices=("cpu:0",))
    )
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    frozen = TrainConfig("tlkeras_tiny")
    assert TrainConfig.from_json(json.loads(json.dumps(frozen.to_json()))) == frozen
