"""How good ideal images are: what their own network and another one say of the saved PNG files.

    python -m benchmarks.ideal_quality [--mode fourier] [--classes 50] [--steps N] [--to ideal_quality.jsonl]
    python -m benchmarks.ideal_quality --maker mobilenet_0.75 --judge mobilenet_v2

The maker, MobileNetV2 with its ImageNet top, makes one image of each of the classes, which are drawn with seed 2025;
the judge, MobileNet 0.75, had no part in it. A line of JSON for each image goes into ``--to`` as soon as
its batch is done; started again, the script goes on after the last one. No preset was tuned on these classes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import assets, fix_threads, print_table

CLASS_SEED = 2025
BATCH = 10


def drawn_classes(count: int) -> list[int]:
    """The first ``count`` of all classes in a fixed random order."""
    return [int(k) for k in np.random.default_rng(CLASS_SEED).permutation(1000)[:count]]


def make(target: Any, judge: Any, classes: list[int], start: int, mode: str, steps: int | None) -> list[dict[str, Any]]:
    """Make one batch and have it judged: a plain row for each image."""
    from tlkeras.ideal import IdealConfig
    from tlkeras.ideal.images import ideal_images

    config = IdealConfig(mode=mode, steps=steps, seed=start, batch_size=len(classes), frames=2)
    made = ideal_images(target, classes, config)
    answers = made.seen_by(judge)["images"]
    rows = []
    for index, (k, answer) in enumerate(zip(classes, answers, strict=True)):
        rows.append(
            {
                "maker": target.name,
                "judge": judge.name,
                "mode": mode,
                "steps": made.preset.ascent.steps,
                "class": k,
                "label": made.labels[index],
                "probability": float(made.probabilities[index, k]),
                "judge_rank": answer["rank"],
                "judge_probability": answer["probability"],
                "clipped_share": float(((made.images[index] == 0) | (made.images[index] == 255)).mean()),
            }
        )
    return rows


def summary(rows: list[dict[str, Any]]) -> list[object]:
    """The figures of one mode."""

    def share(hits: list[bool]) -> str:
        return f"{100 * sum(hits) / len(hits):.0f} %"

    return [
        rows[0]["maker"],
        rows[0]["judge"],
        rows[0]["mode"],
        len(rows),
        rows[0]["steps"],
        share([row["probability"] >= 0.99 for row in rows]),
        share([row["judge_rank"] <= 5 for row in rows]),
        share([row["judge_rank"] == 1 for row in rows]),
        f"{100 * np.mean([row['clipped_share'] for row in rows]):.1f} %",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["fourier", "pixels"], default="fourier")
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--steps", type=int, default=None, help="gradient steps; the preset's by default")
    parser.add_argument("--maker", default="mobilenet_v2")
    parser.add_argument("--judge", default="mobilenet_0.75")
    parser.add_argument("--to", type=Path, default=Path("ideal_quality.jsonl"))
    options = parser.parse_args()
    assets()
    fix_threads()
    from tlkeras.ideal.presets import preset
    from tlkeras.target import load_target

    target, judge = load_target(options.maker), load_target(options.judge)
    steps = preset(target, options.mode, steps=options.steps).ascent.steps
    stored = [json.loads(line) for line in options.to.read_text().splitlines()] if options.to.exists() else []
    asked = (options.maker, options.judge, options.mode, steps)
    rows = [row for row in stored if (row["maker"], row["judge"], row["mode"], row["steps"]) == asked]
    done = {row["class"] for row in rows}
    wanted = drawn_classes(options.classes)
    for start in range(0, len(wanted), BATCH):
        batch = [k for k in wanted[start : start + BATCH] if k not in done]
        if not batch:
            continue
        made = make(target, judge, batch, start, options.mode, options.steps)
        with options.to.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in made)
        rows += made
        print(f"{len(rows)} of {len(wanted)}: {summary(rows)}", flush=True)
    rows = [row for row in rows if row["class"] in wanted]
    header = [
        "maker",
        "judge",
        "mode",
        "classes",
        "steps",
        "p ≥ 0.99 after PNG",
        "judge: top 5",
        "first",
        "values at 0 or 255",
    ]
    print_table(header, [summary(rows)])


if __name__ == "__main__":
    main()
