"""Processes killed when nobody expects it: nothing is half there, and the same command ends as if never killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tlkeras.export.publish import changes, read_manifest
from tlkeras.storage import unfinished

KILLS_A_CHAIN = 10


def begun(arguments, cache):
    environment = {**os.environ, "TLKERAS_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tlkeras.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished(arguments, cache):
    """Run a command to its end; returns the seconds that it took."""
    started = time.monotonic()
    process = begun(arguments, cache)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.monotonic() - started


def killed(arguments, cache, after_seconds):
    """Run a command that is killed after a while; returns whether it was at its end before."""
    process = begun(arguments, cache)
    try:
        process.wait(after_seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode == 0


def next_of(command, out):
    """What a user gives after a kill: the way to go on where there is one, the same command else."""
    return ["train", "--resume", out] if (unfinished(out) / "asked.json").exists() else [*command, "--out", out]


def tensors(run):
    return [path.read_bytes() for path in sorted((run / "classifier").glob("*.safetensors"))]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("options", [[], ["--fine-tune", "2", "--batch-size", "16", "--save-seconds", "0"]])
def test_training_that_is_killed_again_and_again(seed, options, photo_folder, small_weights, tmp_path):
    network = ["--backbone", "mobilenet_0.25", "--weights", small_weights, "--size", "32"]
    command = ["train", photo_folder, *network, *options]
    seconds = finished([*command, "--out", tmp_path / "undisturbed"], tmp_path / "cache0")
    moments, out = random.Random(seed), tmp_path / "run"
    kills = 0
    while kills < KILLS_A_CHAIN and not out.exists():
        arguments = (
            ["train", "--resume", out] if (unfinished(out) / "asked.json").exists() else [*command, "--out", out]
        )
        kills += not killed(arguments, tmp_path / "cache", moments.uniform(0.1, 1) * seconds)
        # The run is whole or not there.
        assert not out.exists() or json.loads((out / "metrics.json").read_text())
    if not out.exists():
        finished(next_of(command, out), tmp_path / "cache")
    print(f"{kills} kills")
    assert tensors(out) == tensors(tmp_path / "undisturbed")
    assert (out / "predictions.csv").read_bytes() == (tmp_path / "undisturbed" / "predictions.csv").read_bytes()
    # What the dead have left is swept by who comes after them.
    assert {path.name for path in tmp_path.iterdir()} == {"undisturbed", "run", "cache0", "cache"}


@pytest.mark.slow
def test_exports_that_are_killed_again_and_again(run_folder, tmp_path):
    command = ["export", run_folder, "--name", "m", "--to"]
    seconds = finished([*command, tmp_path / "undisturbed"], tmp_path / "cache0")
    moments, models, kills = random.Random(0), tmp_path / "models" / "m", 0
    while kills < KILLS_A_CHAIN:
        kills += not killed([*command, tmp_path / "models"], tmp_path / "cache", moments.uniform(0.1, 1) * seconds)
        for version in models.glob("[0-9]*"):
            assert not any(vars(changes(version, read_manifest(version))).values())
    finished([*command, tmp_path / "models"], tmp_path / "cache")
    assert all(path.name.isdigit() for path in models.iterdir() if not path.name.endswith(".lock"))
    print(f"{kills} kills")
