"""Comparing networks on small pictures, with a small random network as the pretrained one; which one is recommended."""

import numpy as np
import pytest
from PIL import Image

from tests.choosing.measured import measured
from tlkeras import backbones
from tlkeras.choosing import compare as comparing
from tlkeras.choosing.compare import BUDGETS, CompareConfig, budget, compare, pareto, recommend
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError, DataError, WeightsError
from tlkeras.evaluation.metrics import paired_interval
from tlkeras.progress import Silent


def test_missing_networks_are_skipped_and_the_others_measured(comparison):
    assert [name for name, _ in comparison.skipped] == ["vgg16"]
    assert "no network here" in comparison.skipped[0][1]
    assert [m.backbone for m in comparison.measured] == ["tlkeras_tiny", "mobilenet_0.25"]


def test_what_is_measured_is_there(comparison):
    plain = comparison.to_json()
    assert plain["images"] == 40
    assert plain["of_images"] == 60  # all good ones: none is held back unless that is asked for
    for row in plain["networks"]:
        assert row["accuracy"] >= 0.95  # the tints are easy
        assert row["accuracy_interval"][0] > 0.85
        assert row["parameters"] == 218_544
        assert row["megabytes"] == pytest.approx(4 * 218_544 / 1e6, abs=0.01)
        assert 0 < row["ms_per_image"]["batch_32"] < 1000
        assert row["statistics_shift"] > 0
        assert row["transfer"]["verdict"] in ("well", "partly", "badly")
    assert plain["recommendation"]["name"] in [row["name"] for row in plain["networks"]]
    assert comparison.transfer.words == plain["transfer"]["words"]


def test_the_test_split_takes_no_part(comparison, photo_folder, small_weights, monkeypatch):
    seen = []
    monkeypatch.setattr(comparing, "measure", lambda name, config, photos, reporter: seen.append(photos) or 1 / 0)
    config = CompareConfig((f"mobilenet_0.25={small_weights}",), size_px=32, images=1000)
    with pytest.raises(ZeroDivisionError):
        compare(config, open_dataset(photo_folder), Silent())
    assert set(seen[0].images.splits.tolist()) == {"train", "validation"}


def test_nothing_to_compare_is_told_before_the_photos_are_read(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("down")))
    with pytest.raises(WeightsError, match="none of the networks can be had; received first vgg16"):
        compare(CompareConfig(("vgg16",)), None, Silent())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbones": ()}, "at least one network"),
        ({"backbones": ("vgg16", "vgg16")}, "compared once"),
        ({"backbones": ("vgg_16",)}, "did you mean 'vgg16'"),
        ({"images": 5}, "at least 20 photos"),
        ({"fit": "squash"}, "squash"),
        ({"engine": "onnx"}, "unknown engine 'onnx'; known are auto"),
        ({"test_fraction": 0.9}, "test_fraction"),
    ],
)
def test_refuses(options, words):
    with pytest.raises(ConfigError, match=words):
        CompareConfig(**options)


def test_budgets_name_networks_of_the_table():
    for name, networks in BUDGETS.items():
        assert budget(name) == networks
        assert all(backbones.get(network) for network in networks)
    with pytest.raises(ConfigError, match="did you mean 'medium'"):
        budget("medum")


def test_features_that_bring_nothing_are_called_so(tmp_path, small_weights):
    """Classes that differ by the sign of one fixed noise pattern, drawn here: no network has learned that."""
    rng = np.random.default_rng(0)
    pattern = rng.choice([-1.0, 1.0], (96, 96, 1))
    for label, sign in (("minus", -1), ("plus", 1)):
        (tmp_path / label).mkdir()
        for number in range(60):
            noise = 128 + sign * 6 * pattern + rng.normal(0, 45, (96, 96, 3))
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(tmp_path / label / f"{number}.png")
    config = CompareConfig(("tlkeras_tiny",), engine="tensorflow")
    found = compare(config, open_dataset(tmp_path), Silent()).transfer
    assert found.verdict == "badly"
    assert found.distance == "far"
    assert found.words.startswith("No: ")
    assert "--unfreeze all" in found.words


@pytest.mark.parametrize(
    ("networks", "taken", "best"),
    [
        # Two of 400 photos more are noise: the quicker one.
        ([("small", 380, 1.0), ("large", 382, 9.0)], "small", "large"),
        # Forty are not.
        ([("small", 340, 1.0), ("large", 380, 9.0)], "large", "large"),
        ([("slow", 380, 5.0), ("quick", 380, 2.0)], "quick", "quick"),
        ([("middle", 379, 3.0), ("bad", 200, 0.5), ("large", 382, 9.0)], "middle", "large"),
        ([("only", 100, 1.0)], "only", "only"),
    ],
)
def test_takes_the_quickest_within_the_noise_of_the_best(networks, taken, best):
    made = recommend([measured(*network) for network in networks])
    assert (made.name, made.best) == (taken, best)
    assert made.sentence.count(".") >= 1
    assert taken in made.sentence
    assert best in made.sentence
    assert made.interval[0] <= made.difference <= made.interval[1]


def test_the_sentence_names_the_price():
    sentence = recommend([measured("small", 380, 1.0), measured("large", 382, 9.0)]).sentence
    assert "Take small: 95.0 %" in sentence
    assert "large gets 0.5 points more" in sentence
    assert "within the noise" in sentence
    assert "9.0 times as long" in sentence


def test_pairing_sees_what_two_intervals_do_not():
    # Twelve photos apart, all of them won by one side: certain, though both intervals overlap widely.
    one, other = measured("a", 380, 1.0), measured("b", 368, 1.0)
    assert other.probe.interval[1] > one.probe.interval[0]
    assert paired_interval(one.probe.right, other.probe.right)[0] > 0
    # The same accuracies with errors on other photos: no difference can be told.
    turned = measured("b", 368, 1.0, turned=200)
    assert paired_interval(one.probe.right, turned.probe.right)[0] < 0


def test_front_holds_what_nothing_beats_in_both():
    networks = [measured("a", 300, 1.0), measured("b", 290, 2.0), measured("c", 350, 3.0), measured("d", 350, 4.0)]
    assert pareto(networks) == ("a", "c")


def test_nothing_measured_is_refused():
    with pytest.raises(DataError, match="at least one"):
        recommend([])
