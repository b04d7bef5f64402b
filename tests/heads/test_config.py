import json
from dataclasses import asdict

import pytest

from tlkeras.errors import ConfigError
from tlkeras.heads.config import HeadConfig


@pytest.mark.parametrize("config", [HeadConfig(), HeadConfig("mlp", (64, 32), 0.0, False)], ids=["linear", "mlp"])
def test_survives_json(config):
    assert HeadConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "liner"}, "did you mean 'linear'"),
        ({"kind": "mlp", "units": ()}, "at least one hidden layer"),
        ({"kind": "mlp", "units": (0,)}, r"received \[0\]"),
        ({"kind": "mlp", "units": (True,)}, "whole numbers"),
        ({"kind": "mlp", "units": (2.5,)}, "whole numbers"),
        ({"dropout": 1.0}, "0 ≤ p < 1"),
        ({"dropout": -0.1}, "0 ≤ p < 1"),
        ({"dropout": float("nan")}, "0 ≤ p < 1"),
    ],
)
def test_refuses(options, words):
    with pytest.raises(ConfigError, match=words):
        HeadConfig(**options)
