"""The whole `tlkeras train` command against one bare decode-and-forward pass over the same photos.

    TLKERAS_ASSETS=… python -m benchmarks.end_to_end

Cats vs dogs, 2,000 photos for training and 1,000 for the test, MobileNetV2 with ImageNet weights. The command
starts in a new process with an empty cache. The floor is a loop in a warm process that only decodes, fits and
runs the network in the same engine. A second command with another head finds the features stored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import assets, fix_threads, print_table

ALLOWED_FACTOR, ALLOWED_SECONDS = 1.35, 12.0


def command(arguments: list[str], cache: Path) -> tuple[float, dict]:
    """Wall-clock seconds of a ``tlkeras`` command, process start included, and the JSON that it printed."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tlkeras.cli.main", *arguments, "--json"],
        env={**os.environ, "TLKERAS_CACHE": str(cache)},
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - started, json.loads(done.stdout)


def bare_pass(files: list[str], engine: str) -> float:
    """Seconds of one decode-and-forward pass in a warm process."""
    from tlkeras.backbones.frozen import frozen
    from tlkeras.data.pipeline import pixel_batches
    from tlkeras.engines import open_engine

    list(pixel_batches(files[:32], 224, "stretch"))
    runner = open_engine(frozen("mobilenet_v2"), name=engine)
    started = time.perf_counter()
    for _, pixels in pixel_batches(files, 224, "stretch"):
        runner.run(pixels)
    return time.perf_counter() - started


def main() -> None:
    photos = assets() / "photos" / "cats_vs_dogs"
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    fix_threads()
    files = [str(path) for part in ("train", "test") for path in sorted((photos / part).rglob("*.jpg"))]
    rows = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder) / "cache"
            data = [str(photos / "train"), "--test", str(photos / "test")]
            whole, first = command(["train", *data, "--out", f"{folder}/first"], cache)
            again, second = command(["train", *data, "--head", "mlp", "--out", f"{folder}/second"], cache)
            os.environ["TLKERAS_CACHE"] = str(cache)
            floor = bare_pass(files, first["features"]["engine"])
        allowed = ALLOWED_FACTOR * floor + ALLOWED_SECONDS
        rows.append(
            (
                first["features"]["engine"],
                f"{floor:.1f}",
                f"{len(files) / floor:.0f}",
                f"{whole:.1f}",
                f"{allowed:.1f}",
                "yes" if whole <= allowed else "no",
                f"{100 * first['evaluation']['accuracy']:.2f} %",
                f"{again:.1f}",
                second["features"]["computed"],
                f"{100 * second['evaluation']['accuracy']:.2f} %",
            )
        )
    print_table(
        (
            "engine",
            "bare pass, s",
            "images/s",
            "whole command, s",
            f"{ALLOWED_FACTOR} × pass + {ALLOWED_SECONDS:.0f} s",
            "within",
            "accuracy",
            "second run, mlp head, s",
            "features computed again",
            "accuracy",
        ),
        rows,
    )


if __name__ == "__main__":
    main()
