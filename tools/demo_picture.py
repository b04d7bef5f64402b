"""The picture of the README: photos of the demo set with what a run says of them.

python tools/demo_picture.py RUN --to docs/images/demo.png
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image, ImageOps

from tlkeras import TrainedClassifier

COLUMNS, PER_CLASS = 8, 4


def test_photos(run: Path) -> list[tuple[str, str]]:
    """A few (path, label) of each class from the run's own test split."""
    with (run / "splits.csv").open(newline="") as file:
        rows = [(row["path"], row["label"]) for row in csv.DictReader(file) if row["split"] == "test"]
    chosen = []
    for label in sorted({label for _, label in rows}):
        chosen += [row for row in rows if row[1] == label][:PER_CLASS]
    return chosen


def main() -> None:
    """Draw the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    classifier = TrainedClassifier.load(options.run)
    photos = test_photos(options.run)
    answers = classifier.predict([path for path, _ in photos])
    rows = -(-len(photos) // COLUMNS)
    figure, axes = plt.subplots(
        rows * 2, COLUMNS, figsize=(COLUMNS * 1.5, rows * 2.35), height_ratios=[3, 1.35] * rows, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for index, ((path, label), row) in enumerate(zip(photos, answers, strict=True)):
        picture, bars = (axes[2 * (index // COLUMNS) + part, index % COLUMNS] for part in range(2))
        picture.imshow(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        bars.axis("on")
        right = classifier.class_names[row.argmax()] == label
        names = classifier.class_names
        colours = [("#2a7d4f" if right else "#b3412e") if k == row.argmax() else "#c9ccd1" for k in range(len(names))]
        bars.barh(range(len(names)), row, color=colours, height=0.72)
        bars.set(xlim=(0, 1), xticks=[], yticks=range(len(names)))
        bars.set_yticklabels(names, fontsize=8)
        bars.tick_params(length=0)
        bars.invert_yaxis()
        for side in ("top", "right", "bottom"):
            bars.spines[side].set_visible(False)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.to, dpi=110, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
