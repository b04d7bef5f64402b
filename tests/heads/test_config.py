import json
from dataclasses import asdict

import numpy as np
import pytest

from tlkeras.errors import ConfigError
from tlkeras.heads.config import HeadConfig, build_head, build_mlp, linear_model
from tlkeras.heads.linear import LinearHead, unit_rows


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


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (HeadConfig(), ["features", "unit_length", "logits"]),
        (HeadConfig("mlp", (4,), 0.0, False), ["features", "standardise", "dense_1", "relu_1", "logits"]),
        (
            HeadConfig("mlp", (4, 3), 0.5),
            [
                *("features", "standardise", "dense_1", "batch_norm_1", "relu_1", "dropout_1"),
                *("dense_2", "batch_norm_2", "relu_2", "dropout_2", "logits"),
            ],
        ),
    ],
)
def test_layer_names_are_stable(config, names):
    for _ in range(2):
        model = build_head(config, 6, 3)
        assert [layer.name for layer in model.layers] == names
        assert model.output_shape == (None, 3)


def test_linear_model_equals_the_head():
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(6, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    features = rng.normal(size=(5, 6)).astype(np.float32)
    logits = np.asarray(linear_model(head)(features))
    np.testing.assert_allclose(logits, head.logits(unit_rows(features)), atol=1e-5)
    np.testing.assert_allclose(np.asarray(linear_model(head)(3 * features)), logits, atol=1e-5)


def test_standardises_with_the_given_statistics():
    mean, variance = np.array([50.0, -7.0]), np.array([4.0, 9.0])
    model = build_mlp(HeadConfig("mlp"), 2, 2, mean=mean, variance=variance)
    for training in (False, True):
        standard = model.get_layer("standardise")(np.array([[52, -1]], np.float32), training=training)
        np.testing.assert_allclose(np.asarray(standard), [[1, 2]], atol=1e-5)
