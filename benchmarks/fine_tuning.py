"""Frozen against fine-tuned: accuracy on the test with its 95 % interval, by data set and seed.

    TLKERAS_ASSETS=… python -m benchmarks.fine_tuning [--data flowers,steel] [--backbone mobilenet_0.25] [--size 128]
        [--epochs 10] [--seeds 3] [--rows FILE.jsonl]

Splits: 30 % test, stratified and seeded, then 15 % validation (cats vs dogs: its own test photos). Everything else is
the default of `tlkeras train --fine-tune EPOCHS`. With --rows a row is written as soon as it is measured, and rows
that are there already are not measured again; --data "" measures nothing and prints them.

The last table has a sign test over test photos: one that more of the seeds' delivered networks have right than of the
frozen ones is better, one that fewer have right is worse. A photo that is in several seeds' tests counts once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import assets, data_sets, fix_threads, print_table


def measured(
    data: Path, backbone: str, size_px: int, epochs: int, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    from tlkeras.fine_tuning.config import FineTuneConfig
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.run import train

    config = TrainConfig(
        backbone,
        size_px=size_px,
        test_fraction=0.3,
        seed=seed,
        fine_tune=FineTuneConfig(epochs=epochs, **options),
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        split = (data / "test").is_dir()
        run = train(
            config,
            data / "train" if split else data,
            test_data=data / "test" if split else None,
            out=Path(folder) / "run",
        )
    tuning = run.fine_tuning()
    assert tuning is not None
    before, after = (j.answers.right for j in (run.frozen_measurement, run.measurement))
    names = ["/".join(Path(path).parts[-2:]) for path in run.measurement.images.paths]
    return {
        "train": int((run.fitted.images.splits != "test").sum()),
        "mended": [name for name, was, is_now in zip(names, before, after, strict=True) if is_now and not was],
        "spoilt": [name for name, was, is_now in zip(names, before, after, strict=True) if was and not is_now],
        **tuning["test"],
        "winner": tuning["contest"]["winner"],
        "reason": tuning["reason"],
        "contest": tuning["contest"],
        "epochs_run": len(tuning["epochs"]),
        "fine_tuning_s": tuning["seconds"],
        "all_s": time.perf_counter() - started,
    }


def percent(figures: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in figures["accuracy_interval"])
    return f"{100 * figures['accuracy']:.1f} % ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="flowers,37 breeds,steel defects,cats vs dogs")
    parser.add_argument("--backbone", default="mobilenet_0.25")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--options", default="{}", help="other fields of FineTuneConfig, as JSON")
    chosen = parser.parse_args()
    assets()
    fix_threads()
    rows: list[dict[str, Any]] = []
    if chosen.rows and chosen.rows.exists():
        rows = [json.loads(line) for line in chosen.rows.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        paths = data_sets(Path(folder))
        for seed in range(chosen.seeds):
            for name in filter(None, chosen.data.split(",")):
                asked = {
                    "data": name,
                    "backbone": chosen.backbone,
                    "size_px": chosen.size,
                    "epochs": chosen.epochs,
                    "seed": seed,
                    "options": json.loads(chosen.options),
                }
                if any(all(row[key] == value for key, value in asked.items()) for row in rows):
                    continue
                figures = measured(paths[name], chosen.backbone, chosen.size, chosen.epochs, seed, asked["options"])
                rows.append({**asked, **figures})
                if chosen.rows:
                    with chosen.rows.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    header = ("data", "network", "seed", "photos", "test", "frozen", "delivered", "kept", "fine-tuning, s")
    table = []
    for row in sorted(rows, key=lambda row: (row["data"], row["backbone"], row["seed"])):
        network = f"{row['backbone']}, {row['size_px']} px"
        table.append(
            (row["data"], network, row["seed"], row["train"], row["kept"]["images"], percent(row["frozen"]),
             percent(row["kept"]), row["winner"], f"{row['fine_tuning_s']:.0f}")
        )  # fmt: skip
    print_table(header, table)
    print()
    means = []
    for key in dict.fromkeys((row["data"], row["backbone"], row["size_px"]) for row in rows):
        those = [row for row in rows if (row["data"], row["backbone"], row["size_px"]) == key]
        before, after = (100 * np.array([row[who]["accuracy"] for row in those]) for who in ("frozen", "kept"))
        better, worse, p = sign_test(those)
        means.append(
            (key[0], f"{key[1]}, {key[2]} px", len(those), f"{before.mean():.1f} %", f"{after.mean():.1f} %",
             f"{(after - before).mean():+.1f}", f"{(after - before).min():+.1f}", f"{better} : {worse}", f"{p:.2g}")
        )  # fmt: skip
    header = ("data", "network", "seeds", "frozen", "delivered", "mean gain", "smallest", "better : worse", "p")
    print_table(header, means)


def sign_test(rows: list[dict[str, Any]]) -> tuple[int, int, float]:
    """Test photos that are better and worse over all seeds, and the two-sided p of such a difference by chance."""
    from scipy.stats import binomtest

    net = Counter(name for row in rows for name in row["mended"])
    net.subtract(name for row in rows for name in row["spoilt"])
    better, worse = sum(count > 0 for count in net.values()), sum(count < 0 for count in net.values())
    return better, worse, float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


if __name__ == "__main__":
    main()
