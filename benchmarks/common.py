"""What the benchmarks share: the real photos, data sets made of them, and a table in Markdown."""

from __future__ import annotations

import csv
import os
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


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table on standard output."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
