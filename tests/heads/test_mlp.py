import numpy as np
import pytest

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.config import HeadConfig, build_head
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.mlp import fit_mlp

RINGS = HeadConfig("mlp", (32,), 0.1)


def rings(count, seed):
    """Two classes that no linear head separates, far from zero and of unlike scales."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, count), 1 + 2 * labels + rng.normal(0, 0.1, count)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    return (points * [1, 1000] + [50, -7]).astype(np.float32), labels


def fit(**options):
    settings = {"config": RINGS, "epochs": 40, "learning_rate": 1e-2, "batch_size": 32} | options
    return fit_mlp(*rings(257, 0), *rings(100, 1), 2, **settings)


@pytest.fixture(scope="module")
def trained():
    """A network, its history and what its progress told."""
    told = []
    return *fit(progress=lambda done, total: told.append((done, total))), told


def test_learns_what_a_linear_head_cannot(trained):
    model, history, told = trained
    features, labels = rings(200, 2)
    assert np.mean(np.asarray(model(features)).argmax(axis=1) == labels) > 0.97
    assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    assert told == [(i, 40) for i in range(1, len(history) + 1)]


def test_keeps_the_best_epoch_and_stops_early():
    model, history = fit(epochs=60, patience=2)
    losses = [row["log_loss"] for row in history]
    assert len(history) == int(np.argmin(losses)) + 1 + 2 < 60
    features, labels = rings(100, 1)
    logits = np.asarray(model(features, training=False), np.float64)
    log_loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(100), labels])
    assert log_loss == pytest.approx(min(losses), abs=1e-6)


def test_same_seed_same_weights():
    first, second, other = (fit(epochs=1, seed=seed)[0].get_weights() for seed in (4, 4, 5))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(first, other, strict=True))


def test_is_rebuilt_from_its_config(trained):
    model, _, _ = trained
    copy = build_head(RINGS, 2, 2)
    copy.set_weights(model.get_weights())
    features, _ = rings(20, 3)
    np.testing.assert_array_equal(np.asarray(copy(features)), np.asarray(model(features)))


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e6])
def test_rows_get_the_length_that_keras_gives_them(unit):
    import keras

    features = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32) * np.float32(unit)
    np.testing.assert_allclose(unit_rows(features), keras.layers.UnitNormalization()(features), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"patience": 0}, "patience"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"config": HeadConfig()}, "kind 'mlp'"),
    ],
)
def test_refuses(options, words):
    with pytest.raises(ConfigError, match=words):
        fit(**options)


def test_refuses_validation_of_other_features():
    features, labels = rings(10, 0)
    with pytest.raises(DataError, match="received 2 and 1"):
        fit_mlp(features, labels, features[:, :1], labels, 2)


@pytest.mark.parametrize(("features", "classes"), [(0, 2), (3, 1)])
def test_refuses_sizes(features, classes):
    with pytest.raises(ConfigError, match="two classes"):
        build_head(HeadConfig(), features, classes)
