"""Comparing and few-shot curves on small pictures, with a small random network as the pretrained one."""

import numpy as np
import pytest
from PIL import Image

from tlkeras import backbones
from tlkeras.choosing import compare as comparing
from tlkeras.choosing.compare import BUDGETS, CompareConfig, budget, compare
from tlkeras.choosing.few_shot import few_shot
from tlkeras.choosing.measure import milliseconds
from tlkeras.choosing.plots import figure_of_comparison, figure_of_few_shot
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError, WeightsError
from tlkeras.images.arrays import figure_bytes
from tlkeras.progress import Silent
from tlkeras.training.config import TrainConfig


@pytest.fixture(scope="module")
def comparison(photo_folder, small_weights, tmp_path_factory):
    home = pytest.MonkeyPatch()
    home.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("no_weights")))
    home.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network here")))
    config = CompareConfig(
        ("vgg16", "tlkeras_tiny", f"mobilenet_0.25={small_weights}"), size_px=32, images=40, engine="tensorflow"
    )
    found = compare(config, open_dataset(photo_folder), Silent())
    home.undo()
    return found


def test_missing_networks_are_skipped_and_the_others_measured(comparison):
    assert [name for name, _ in comparison.skipped] == ["vgg16"]
    assert "no network here" in comparison.skipped[0][1]
    assert [m.backbone for m in comparison.measured] == ["tlkeras_tiny", "mobilenet_0.25"]


def test_what_is_measured_is_there(comparison):
    plain = comparison.to_json()
    assert plain["images"] == 40
    assert plain["of_images"] == 52  # 60 good pictures less the test
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


def test_time_is_that_of_one_image():
    def slow(rows):
        import time

        time.sleep(0.02 * len(rows))
        return rows

    assert milliseconds(slow, np.zeros((2, 4, 4, 3)), 4) == pytest.approx(20, rel=0.5)


@pytest.fixture(scope="module")
def curve(photo_folder, small_weights):
    config = TrainConfig("mobilenet_0.25", weights=str(small_weights), size_px=32, engine="tensorflow")
    return few_shot(config, open_dataset(photo_folder), Silent(), shots=(1, 5, 500), draws=3)


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


def test_figures_are_drawn(comparison, curve):
    for figure in (figure_of_comparison(comparison), figure_of_few_shot(curve)):
        assert figure_bytes(figure).startswith(b"\x89PNG")
        assert figure.axes[0].get_xlabel()
