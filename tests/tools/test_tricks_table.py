"""The tool that measures training tricks: recipes train, seeds repeat, the table says what is sure."""

from dataclasses import replace

import numpy as np
import pytest

from tools import tricks_table
from tools.tricks_table import BASE, ROWS, Task, Trainer, accuracies, optimiser_of, table


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    features = rng.normal(size=(240, 6)).astype(np.float32)
    features[np.arange(240), labels] += 4
    parts = {"train": np.arange(120), "validation": np.arange(120, 160), "test": np.arange(160, 240)}
    return Task({"pretrained": features}, labels, parts, 3)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tricks_table, "EPOCHS", 12)


@pytest.mark.parametrize(
    ("changes", "lowest", "highest"),
    [
        ({"units": (16,), "rates": (1e-2,)}, 0.85, 1.0),
        ({"units": ()}, 0.85, 1.0),
        # Equal units stay equal: the output's bias is all that learns.
        ({"units": (16,), "start": "zeros", "batch_norm": False, "dropout": 0.0}, 0.2, 0.45),
        ({"units": (16,), "optimiser": "sgd", "rates": (1e6, 1e-1), "batch_norm": False}, 0.7, 1.0),
    ],
    ids=["base", "linear", "zeros", "diverges at one rate"],
)
def test_recipes_do_what_they_say(task, changes, lowest, highest):
    (found,) = accuracies(task, replace(BASE, **changes), 1)
    assert lowest <= found <= highest


def test_training_again_starts_again(task):
    recipe = replace(BASE, units=(16,), average="ema")
    trainer = Trainer(task, recipe)
    first = trainer.run(1e-2, 3)
    other = trainer.run(1e-1, 4)
    assert trainer.run(1e-2, 3) == pytest.approx(first, rel=1e-5)
    assert other != pytest.approx(first, rel=1e-3)


def test_every_row_has_an_optimiser_and_an_option():
    for trick, what, recipe, option, against in ROWS:
        assert trick
        assert what
        assert option
        assert against != recipe or trick == "optimiser"
        assert optimiser_of(recipe, 10).learning_rate is not None
    words = {row[0] for row in ROWS}
    assert {"input scaling", "initialisation", "batch normalisation", "dropout", "early stopping"} <= words
    assert {"weight decay", "model averaging", "optimiser", "clipping", "rate schedule", "architecture"} <= words


def test_the_table_tells_effects_from_noise():
    sure, noisy = replace(BASE, dropout=0.0), replace(BASE, dropout=0.6)
    rows = [("dropout", "0", sure, "x", BASE), ("dropout", "0.6", noisy, "x", BASE)]
    measured = {BASE: [0.70, 0.71, 0.72], sure: [0.60, 0.61, 0.62], noisy: [0.65, 0.72, 0.76]}
    lines = table(rows, measured)
    assert "| 61.0 % ± 1.0 | -10.0 ± 0.0 | yes |" in lines[3]
    assert "| no |" in lines[4]
