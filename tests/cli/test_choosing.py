"""``compare``, ``few-shot`` and ``train --head auto`` on the command line."""

import importlib
import json

import pytest

from tlkeras.cli.main import main


@pytest.fixture(scope="module")
def network(small_weights):
    return ["--size", "32", "--engine", "tensorflow"], str(small_weights)


@pytest.fixture
def once(monkeypatch):
    """Make a function of a module answer as it did the first time, whatever it is asked afterwards."""

    def keep(place):
        module, name = place.rsplit(".", 1)
        function, answers = getattr(importlib.import_module(module), name), []

        def answer(*arguments, **options):
            if not answers:
                answers.append(function(*arguments, **options))
            return answers[0]

        monkeypatch.setattr(place, answer)

    return keep


def test_compare_writes_figures_and_a_plot(network, photo_folder, tmp_path, capfd, once, monkeypatch):
    once("tlkeras.choosing.compare.compare")
    monkeypatch.setattr("tlkeras.choosing.measure._MIN_SECONDS", 0.05)
    options, weights = network
    out = tmp_path / "made"
    asked = ["compare", str(photo_folder), "--backbones", f"mobilenet_0.25={weights}", *options, "--out", str(out)]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found == json.loads((out / "compare.json").read_text())
    assert (out / "compare.png").stat().st_size > 10_000
    assert main(asked) == 2
    assert "stays as it is" in capfd.readouterr().err
    assert main(asked[:-2]) == 0
    shown = capfd.readouterr().out
    assert "the only network" in shown
    assert "Does it transfer?" in shown


def test_few_shot_writes_figures_and_a_plot(network, photo_folder, tmp_path, capfd, once):
    once("tlkeras.choosing.few_shot.few_shot")
    options, weights = network
    out = tmp_path / "made"
    asked = ["few-shot", str(photo_folder), "--backbone", "mobilenet_0.25", "--weights", weights, *options]
    asked += ["--shots", "1,5", "--draws", "2"]
    assert main([*asked, "--out", str(out), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [point["per_class"] for point in found["points"]] == [1, 5, None]
    assert sorted(path.name for path in out.iterdir()) == ["few-shot.json", "few-shot.png"]
    assert main(asked) == 0
    assert "photos of each class" in capfd.readouterr().out


def test_train_searches_a_head(network, photo_folder, tmp_path, capfd):
    options, weights = network
    out = tmp_path / "run"
    asked = ["train", str(photo_folder), "--backbone", "mobilenet_0.25", "--weights", weights, *options]
    assert main([*asked, "--head", "auto", "--budget-s", "0.001", "--out", str(out)]) == 0
    assert "Heads on held-out images" in capfd.readouterr().out
    described = json.loads((out / "run.json").read_text())
    assert described["config"]["head"] == {"kind": "auto", "budget_s": 0.001}
    assert described["head"]["search"]["chosen"] == "linear"
    assert len(described["head"]["search"]["candidates"]) == 9
    assert json.loads((out / "classifier" / "classifier.json").read_text())["head"]["kind"] == "linear"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "demo", "--backbones", "vgg16", "--budget", "small"], "--budget has no effect with --backbones"),
        (["compare", "demo", "--budget", "tiny"], "unknown budget 'tiny'"),
        (["few-shot", "demo", "--shots", "many"], "--shots takes whole numbers"),
        (["train", "demo", "--head", "forest"], "unknown head 'forest'"),
        (["train", "demo", "--head", "auto", "--budget-s", "-1"], "more than 0 seconds"),
    ],
)
def test_bad_options_are_one_line(arguments, words, capfd):
    assert main(arguments) == 2
    error = capfd.readouterr().err
    assert words in error
    assert error.count("\n") == 1
