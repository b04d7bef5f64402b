"""The learning-rate finder: what a curve speaks for, and the folder that it leaves."""

import json

import numpy as np
import pytest
from PIL import Image

from tlkeras.cli.main import main
from tlkeras.errors import ConfigError
from tlkeras.fine_tuning.rate_finder import smooth, suggested

RATES = np.geomspace(1e-6, 1, 80)


def test_a_tenth_of_the_edge_is_suggested():
    # It learns up to 1e-2 and goes wrong from there.
    losses = 1 - 0.1 * np.log10(RATES / 1e-6) + 5 * np.maximum(0, np.log10(RATES / 1e-2))
    found = suggested(RATES, losses)
    assert 1e-2 <= found.edge <= 4e-2  # smoothing sees it a little late
    assert found.rate == pytest.approx(found.edge / 10)


def test_a_flat_curve_has_its_edge_where_it_rises():
    losses = np.where(RATES < 1e-3, 0.5, 5.0) + 0.01 * np.sin(np.arange(80))
    assert 5e-4 < suggested(RATES, losses).edge < 2e-3


def test_smoothing_is_fair_to_the_first():
    np.testing.assert_allclose(smooth([2.0, 2.0, 2.0]), 2.0)


def test_no_finite_loss_is_one_line():
    with pytest.raises(ConfigError, match="no rate gave a finite loss"):
        suggested([], [])


def test_the_command_draws_and_tells(photo_folder, small_weights, tmp_path, capfd):
    network = ["--backbone", "mobilenet_0.25", "--weights", str(small_weights), "--size", "32"]
    out = tmp_path / "rate"
    options = ["--find-rate", "--unfreeze", "1", "--batch-size", "8", "--engine", "tensorflow"]
    assert main(["train", str(photo_folder), *network, *options, "--out", str(out), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told == json.loads((out / "rate_finder.json").read_text())
    assert told["rate"] == pytest.approx(told["edge"] / 10)
    assert told["rates"] == sorted(told["rates"])
    with Image.open(out / "rate_finder.png") as picture:
        assert len(np.unique(np.asarray(picture))) > 20
