"""`tlkeras train --fine-tune` killed for good, and resumed: the same figures as a run that was left alone."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tlkeras.cli.main import main
from tlkeras.errors import StorageError
from tlkeras.fine_tuning import start
from tlkeras.fine_tuning.state import STATE_FILE, TuningState, load_weights
from tlkeras.storage import unfinished


@pytest.fixture(scope="module")
def command(photo_folder, small_weights):
    network = ["--backbone", "mobilenet_0.25", "--weights", str(small_weights), "--size", "32"]
    tuning = ["--fine-tune", "2", "--batch-size", "16", "--save-seconds", "0", "--engine", "tensorflow"]
    return ["train", str(photo_folder), *network, *tuning]


def know_nothing(patch):
    """Say that the frozen classifier knows nothing of validation, so that the fine-tuned one is kept and refitted."""
    real = start.logits_on_validation
    patch.setattr(start, "logits_on_validation", lambda *a, **o: np.zeros_like(real(*a, **o)))


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    """A run that was left alone, and its cache, in which the others find their features."""
    folder = tmp_path_factory.mktemp("undisturbed")
    environment = pytest.MonkeyPatch()
    environment.setenv("TLKERAS_CACHE", str(folder / "cache"))
    know_nothing(environment)
    assert main([*command, "--out", str(folder / "run")]) == 0
    environment.undo()
    tuning = json.loads((folder / "run" / "fine_tuning.json").read_text())
    assert tuning["kept"] == "fine-tuned"
    assert tuning["refit"]
    return folder


def figures(run):
    """All that a run says of how good it is; only times may differ."""
    tuning = json.loads((run / "fine_tuning.json").read_text())
    untimed = {name: [{**row, "seconds": None} for row in tuning[name]] for name in ("epochs", "refit")}
    return {
        "metrics": json.loads((run / "metrics.json").read_text()),
        "predictions": (run / "predictions.csv").read_bytes(),
        "weights": [(run / "classifier" / f"{part}.safetensors").read_bytes() for part in ("backbone", "head")],
        "tuning": {**tuning, "seconds": None, **untimed},
    }


# What the process is told to do to itself, so that it happens at that very step however quick the machine is.
CHILD = """
import os, sys
import numpy as np
from tlkeras.cli.main import main
from tlkeras.fine_tuning import start
from tlkeras.fine_tuning.state import TuningState

course, step, number, arguments = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
save, real, sent = TuningState.save, start.logits_on_validation, []


def save_and_die(state, folder, arrays):
    here = course == ("refit" if folder.name == "refit" else "first")
    if step or not here:
        save(state, folder, arrays)
    if here and state.step >= step and not sent:
        sent.append(os.kill(os.getpid(), number))


TuningState.save = save_and_die
start.logits_on_validation = lambda *a, **o: np.zeros_like(real(*a, **o))
sys.exit(main(arguments))
"""


def killed(arguments, cache, course, step, number=signal.SIGKILL):
    """Run tlkeras in a process that gets a signal once the state of ``step`` is saved, or for 0 before any is.

    ``course``: ``first``, or ``refit`` for the one over all photos. Returns its exit code and what it wrote to
    standard error.
    """
    environment = {**os.environ, "TLKERAS_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, course, str(step), str(int(number)), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def resumed_as(undisturbed, out, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(undisturbed / "cache"))
    know_nothing(monkeypatch)
    assert main(["train", "--resume", str(out)]) == 0
    assert figures(out) == figures(undisturbed / "run")
    assert not unfinished(out).exists()


def test_a_run_that_was_killed_ends_as_one_that_was_not(command, undisturbed, tmp_path, monkeypatch, capfd):
    out = tmp_path / "run"
    code, errors = killed([*command, "--out", out], undisturbed / "cache", "first", 2)
    assert code == -signal.SIGKILL, errors
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
    code, errors = killed([*command, "--out", out], undisturbed / "cache", "first", step)
    assert code == -signal.SIGKILL, errors
    resumed_as(undisturbed, out, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 3])
def test_killed_while_what_won_is_refitted(step, command, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "run"
    code, errors = killed([*command, "--out", out], undisturbed / "cache", "refit", step)
    assert code == -signal.SIGKILL, errors
    resumed_as(undisturbed, out, monkeypatch)


@pytest.mark.slow
def test_killed_again_and_again(command, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "run"
    arguments = [*command, "--out", out]
    for course, step in (("first", 1), ("first", 4), ("refit", 2)):
        code, errors = killed(arguments, undisturbed / "cache", course, step)
        assert code == -signal.SIGKILL, errors
        arguments = ["train", "--resume", out]
    resumed_as(undisturbed, out, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("course", ["first", "refit"])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(course, number, command, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "run"
    code, errors = killed([*command, "--out", out], undisturbed / "cache", course, 2, number)
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
    (tmp_path / "old.unfinished").mkdir()
    old = {"format_version": 1, "data": "demo", "config": {"head": {}, "fine_tune": {"soup": 3, "optimiser": "sgd"}}}
    (tmp_path / "old.unfinished" / "asked.json").write_text(json.dumps(old))
    assert main(["train", "--resume", str(tmp_path / "old")]) == 2
    assert "it was begun by another version of tlkeras" in capfd.readouterr().err
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
