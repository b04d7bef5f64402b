import json
from dataclasses import asdict

import numpy as np
import pytest

from tlkeras.backbones.tensors import named
from tlkeras.errors import ConfigError
from tlkeras.heads.config import HeadConfig, build_head, build_mlp, head_layout
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


@pytest.mark.parametrize(
    "config",
    [HeadConfig(), HeadConfig("mlp", (4,), 0.0, False), HeadConfig("mlp", (4, 3), 0.5), HeadConfig("mlp", (5,), 0.5)],
)
def test_the_layout_is_that_of_the_keras_network(config):
    weights = named(build_head(config, 6, 3).weights)
    assert head_layout(config, 6, 3) == {name: values.shape for name, values in weights.items()}


def test_the_linear_head_in_keras_is_the_head_that_was_fitted():
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(6, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    features = rng.normal(size=(5, 6)).astype(np.float32)
    model = build_head(HeadConfig(), 6, 3)
    model.set_weights(head.arrays)
    np.testing.assert_allclose(np.asarray(model(features)), head.logits(unit_rows(features)), atol=1e-5)
    np.testing.assert_allclose(np.asarray(model(3 * features)), np.asarray(model(features)), atol=1e-5)


def test_standardises_with_the_given_statistics():
    mean, variance = np.array([50.0, -7.0]), np.array([4.0, 9.0])
    model = build_mlp(HeadConfig("mlp"), 2, 2, mean=mean, variance=variance)
    for training in (False, True):
        standard = model.get_layer("standardise")(np.array([[52, -1]], np.float32), training=training)
        np.testing.assert_allclose(np.asarray(standard), [[1, 2]], atol=1e-5)
