"""What the benchmarks share: the real photos, data sets made of them, and results as JSON files and Markdown tables.

``BENCH_SAVE=NAME`` beside a benchmark's command keeps what it measures in ``benchmarks/results/NAME.json``, with the
command, the machine and the versions; ``python -m benchmarks.tables`` writes the tables of the pages from these files.
"""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

THREADS = int(os.environ.get("BENCH_THREADS", len(os.sched_getaffinity(0))))


def assets() -> Path:
    """The folder of real photos and weights; ends the program with a word when there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "assets"
    folder = Path(os.environ.get("TLKERAS_ASSETS", default)).resolve()
    if not (folder / "photos").is_dir():
        sys.exit("needs real photos and weights: set TLKERAS_ASSETS to their folder")
    os.environ["KERAS_HOME"] = str(folder / "keras")
    return folder


def data_sets(folder: Path) -> dict[str, Path]:
    """The four data sets; the breeds, whose class stands in the file name, get a CSV list in ``folder``."""
    photos = assets() / "photos"
    breeds = folder / "breeds.csv"
    with breeds.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for path in sorted((photos / "oxford_iiit_pet" / "images").glob("*.jpg")):
            writer.writerow([path, path.stem.rsplit("_", 1)[0]])
    return {
        "37 breeds": breeds,
        "flowers": photos / "flowers",
        "steel defects": photos / "steel_defects",
        "cats vs dogs": photos / "cats_vs_dogs",
    }


def fix_threads() -> None:
    """Pin TensorFlow and the libraries below it to ``THREADS`` threads; call before anything runs."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(THREADS)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)


RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("tlkeras", "tensorflow", "keras", "numpy", "scipy", "onnxruntime", "openvino", "pillow", "scikit-learn")
_printed: list[dict[str, object]] = []


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table on standard output, kept as a JSON file too where ``BENCH_SAVE`` names one."""
    cells = [[str(cell) for cell in row] for row in rows]
    print(markdown(header, cells))
    _printed.append({"header": list(header), "rows": cells})
    if name := os.environ.get("BENCH_SAVE"):
        result = {
            "format": "tlkeras-benchmark",
            "format_version": 1,
            "command": _command(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": {"processor": _processor(), "cores": THREADS},
            "versions": {"python": platform.python_version(), **_versions()},
            "tables": _printed,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, without a newline at its end."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _command() -> str:
    module = getattr(sys.modules["__main__"].__spec__, "name", Path(sys.argv[0]).name)
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
