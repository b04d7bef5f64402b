"""A fine-tuned run is a run like any other: each command takes it."""

import json
import shutil

import numpy as np
import pytest

from tlkeras import ImageClassifier, graphs
from tlkeras.cli.main import main
from tlkeras.errors import ConfigError, DataError
from tlkeras.fine_tuning import start
from tlkeras.run_facts import read_run
from tlkeras.trained import TrainedClassifier


@pytest.fixture(scope="module")
def tuned(photo_folder, small_weights, tmp_path_factory):
    """A run whose fine-tuned network was kept: its frozen classifier is said to know nothing."""
    folder = tmp_path_factory.mktemp("tuned")
    patch = pytest.MonkeyPatch()
    patch.setenv("TLKERAS_CACHE", str(folder / "cache"))
    real = start.logits_on_validation
    patch.setattr(start, "logits_on_validation", lambda *a, **o: np.zeros_like(real(*a, **o)))
    network = ["--backbone", "mobilenet_0.25", "--weights", str(small_weights), "--size", "32"]
    tuning = ["--fine-tune", "1", "--batch-size", "16", "--unfreeze", "2", "--engine", "onnxruntime"]
    assert main(["train", str(photo_folder), *network, *tuning, "--out", str(folder / "run")]) == 0
    patch.undo()
    return folder / "run"


def test_the_run_says_so(tuned):
    described = json.loads((tuned / "run.json").read_text())
    assert described["config"]["fine_tune"]["unfreeze"] == 2
    for file in ("run.json", "metrics.json"):
        assert json.loads((tuned / file).read_text())["fine_tuning"]["kept"] == "fine-tuned"
    tuning = json.loads((tuned / "fine_tuning.json").read_text())
    assert tuning["test"]["kept"]["images"] == tuning["test"]["frozen"]["images"] == described["images"]["test"]
    assert [row["blocks"] for row in tuning["epochs"]] == [2]


def test_its_graph_is_there_from_the_start(tuned, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tuned.parent / "cache"))
    assert graphs.find(TrainedClassifier.load(tuned).backbone) is not None


def test_a_run_that_names_options_which_are_gone_is_read(tuned, tmp_path):
    shutil.copytree(tuned, tmp_path / "old")
    described = json.loads((tuned / "run.json").read_text())
    gone = {"gradual": True, "schedule": "constant", "optimiser": "sgd", "momentum": 0.9, "soup": 3, "augment": "auto"}
    described["config"]["fine_tune"] |= gone | {"learning_rate": None}
    (tmp_path / "old" / "run.json").write_text(json.dumps(described))
    assert read_run(tmp_path / "old").fine_tuned
    assert main(["report", str(tmp_path / "old")]) == 0


def test_evaluation_is_that_of_the_run(tuned, photo_folder, capfd):
    # Other features than the pretrained network's, though the same photos: they are not confused.
    every = ["--engine", "tensorflow", "--include-seen", "--json"]
    assert main(["evaluate", str(tuned), str(photo_folder), *every]) == 0
    evaluation = json.loads(capfd.readouterr().out)
    assert main(["predict", str(tuned), str(photo_folder / "*" / "[0-9]*.jpg"), "--json"]) == 0
    answers = json.loads(capfd.readouterr().out)["predictions"]
    right = sum(answer["label"] in answer["path"] for answer in answers)
    assert right == round(evaluation["accuracy"] * evaluation["images"])


@pytest.mark.slow
def test_everything_behind_training_takes_it(tuned, photo_folder, tmp_path, capfd):
    photos = [str(photo_folder / "blue" / f"0{n}.jpg") for n in range(4)]
    commands = [
        ["export", str(tuned), "--to", str(tmp_path / "models"), "--name", "tuned"],
        ["verify", str(tmp_path / "models" / "tuned" / "1")],
        ["explain", str(tuned), *photos, "--out", str(tmp_path / "explain")],
        ["attack", str(tuned), *photos, "--label", "blue", "--target", "orange", "--out", str(tmp_path / "attack")],
    ]
    for command in commands:
        assert main(command) == 0, command[0]
    capfd.readouterr()


def test_from_python(photo_folder, small_weights):
    options = {"backbone": "mobilenet_0.25", "weights": str(small_weights), "size_px": 32, "engine": "tensorflow"}
    classifier = ImageClassifier(**options)
    with pytest.raises(DataError, match="needs the training images"):
        classifier.fine_tune()
    with pytest.raises(ConfigError, match="did you mean 'unfreeze'"):
        classifier.fine_tune(photo_folder, unfreez=1)
    classifier.fit(photo_folder)
    assert classifier.fitted_.fine_tuning is None
    assert classifier.fine_tune(epochs=1, batch_size=16, unfreeze=1) is classifier
    fitted = classifier.fitted_
    assert (fitted.classifier is fitted.frozen) == fitted.fine_tuning.kept_frozen
    assert classifier.score(photo_folder, include_seen=True) >= 0.95


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fine-tune", "0"], "epochs must be a whole number from 1"),
        (
            ["--fine-tune", "2", "--unfreeze", "half"],
            "unfreeze must be 'all' or a number of blocks from 0; received 'half'",
        ),
        (["--fine-tune", "2", "--augment", "heavy"], "unknown augmentation 'heavy'"),
        (["--fine-tune", "2", "--devices", "gpu:3"], "unknown device 'gpu:3'"),
        (["--fine-tune", "2", "--mixed-precision"], "needs a GPU"),
    ],
)
def test_impossible_options_are_one_line(options, words, photo_folder, small_weights, tmp_path, capfd):
    network = ["--backbone", "mobilenet_0.25", "--weights", str(small_weights), "--size", "32"]
    assert main(["train", str(photo_folder), *network, *options, "--out", str(tmp_path / "run")]) == 2
    errors = capfd.readouterr().err
    assert words in errors.splitlines()[-1]
    # Nothing is begun that could not be finished.
    assert not list(tmp_path.iterdir())
