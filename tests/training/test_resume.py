"""`tlkeras train --fine-tune` killed for good, and resumed: the same figures as a run that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tlkeras.cli.main import main
from tlkeras.errors import StorageError
from tlkeras.storage import unfinished
from tlkeras.training.state import STATE_FILE, TuningState, load_weights


@pytest.fixture(scope="module")
def command(photo_folder, small_weights):
    network = ["--backbone", "mobilenet_0.25", "--weights", str(small_weights), "--size", "32"]
    tuning = ["--fine-tune", "2", "--batch-size", "16", "--save-seconds", "0", "--engine", "tensorflow"]
    return ["train", str(photo_folder), *network, *tuning]


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    """A run that was left alone, and its cache, in which the others find their features."""
    folder = tmp_path_factory.mktemp("undisturbed")
    environment = pytest.MonkeyPatch()
    environment.setenv("TLKERAS_CACHE", str(folder / "cache"))
    assert main([*command, "--out", str(folder / "run")]) == 0
    environment.undo()
    return folder


def figures(run):
    """All that a run says of how good it is; only times may differ."""
    tuning = json.loads((run / "fine_tuning.json").read_text())
    epochs = [{**row, "seconds": None} for row in tuning["epochs"]]
    return {
        "metrics": json.loads((run / "metrics.json").read_text()),
        "predictions": (run / "predictions.csv").read_bytes(),
        "weights": (run / "classifier" / "weights.safetensors").read_bytes(),
        "tuning": {**tuning, "seconds": None, "epochs": epochs},
    }


def killed(command, out, cache, when, number=signal.SIGKILL):
    """Start the command in a process of its own and kill it as soon as ``when()`` is true; (exit code, stderr)."""
    environment = {**os.environ, "TLKERAS_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tlkeras.cli.main", *command, "--out", str(out)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not when():
            assert process.poll() is None, f"it ended by itself: {process.communicate()[1]}"
            time.sleep(0.005)
        process.send_signal(number)
    finally:
        if process.poll() is None and number == signal.SIGKILL:
            process.kill()
        errors = process.communicate()[1]
    return process.returncode, errors


def steps_done(out):
    path = unfinished(out) / STATE_FILE
    # A reader sees a whole file or none, whenever it looks.
    return TuningState.load(path.parent)[0].step if path.exists() else 0


def resumed_as(undisturbed, out, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(undisturbed / "cache"))
    assert main(["train", "--resume", str(out)]) == 0
    assert figures(out) == figures(undisturbed / "run")
    assert not unfinished(out).exists()


def test_a_run_that_was_killed_ends_as_one_that_was_not(command, undisturbed, tmp_path, monkeypatch, capfd):
    out = tmp_path / "run"
    code, _ = killed(command, out, undisturbed / "cache", lambda: steps_done(out) >= 2)
    assert code == -signal.SIGKILL
    assert not out.exists()
    assert main([*command, "--out", str(out)]) == 2
    assert f"Go on with 'tlkeras train --resume {out}'" in capfd.readouterr().err
    resumed_as(undisturbed, out, monkeypatch)
    assert "resume  from step" in capfd.readouterr().err
    assert main(["train", "--resume", str(out)]) == 2
    assert "is finished, there is nothing to resume" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 3, 4, 5, 6])
def test_killed_at_any_step(step, command, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def far_enough():
        return unfinished(out).exists() and steps_done(out) >= step

    assert killed(command, out, undisturbed / "cache", far_enough)[0] == -signal.SIGKILL
    resumed_as(undisturbed, out, monkeypatch)


@pytest.mark.slow
def test_killed_again_and_again(command, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "run"
    killed(command, out, undisturbed / "cache", lambda: steps_done(out) >= 1)
    for step in (2, 4):
        environment = {**os.environ, "TLKERAS_CACHE": str(undisturbed / "cache")}
        process = subprocess.Popen(
            [sys.executable, "-m", "tlkeras.cli.main", "train", "--resume", str(out)], env=environment
        )
        while process.poll() is None and steps_done(out) < step:
            time.sleep(0.005)
        process.kill()
        process.wait()
    resumed_as(undisturbed, out, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(number, command, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "run"
    code, errors = killed(command, out, undisturbed / "cache", lambda: steps_done(out) >= 2, number)
    assert code == 130
    last = errors.strip().splitlines()[-1]
    assert last.startswith("interrupted after step ")
    assert last.endswith(f"and saved. 'tlkeras train --resume {out}' goes on from there.")
    resumed_as(undisturbed, out, monkeypatch)


def test_what_cannot_be_resumed(tmp_path, capfd):
    assert main(["train", "--resume", str(tmp_path / "nothing")]) == 2
    assert "is no run that was begun" in capfd.readouterr().err
    assert main(["train", "demo", "--resume", str(tmp_path / "nothing")]) == 2
    assert "either DATA or --resume RUN; received both" in capfd.readouterr().err
    assert main(["train"]) == 2
    assert "received neither" in capfd.readouterr().err
    (tmp_path / "torn.unfinished").mkdir()
    (tmp_path / "torn.unfinished" / "asked.json").write_text("{")
    assert main(["train", "--resume", str(tmp_path / "torn")]) == 2
    assert "cannot be used" in capfd.readouterr().err


def test_a_damaged_state_is_one_line(tmp_path):
    (tmp_path / STATE_FILE).write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(StorageError, match="is not a state that was saved"):
        TuningState.load(tmp_path)
    with pytest.raises(StorageError, match="is not a state that was saved"):
        load_weights(tmp_path, "epoch-0001-raw.safetensors")
