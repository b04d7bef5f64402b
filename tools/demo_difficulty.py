"""How hard the demo data set is: a linear head on raw pixels, on a random network and on the pretrained one.

    python -m tools.demo_difficulty [--seeds 3]

The demo is worth showing when pretrained features win clearly. Prints the three accuracies side by side: test
accuracy of the product's own linear head, mean and deviation over stratified 70/30 splits of several drawn sets.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from tlkeras.data.demo import CLASSES, CUT_OFF, EMPTY, TURNED, demo_folder
from tools.tiny_figures import features

RAW_SIDE_PX = 24
TEST_SHARE = 0.3


def pictures(folder: Path) -> tuple[list[Path], np.ndarray]:
    """All whole and upright pictures and their class numbers ``[N]``."""
    odd = {folder / name for name in (CUT_OFF, EMPTY, TURNED)}
    paths = [path for name in CLASSES for path in sorted((folder / name).iterdir()) if path not in odd]
    return paths, np.array([CLASSES.index(path.parent.name) for path in paths])


def raw_pixels(paths: list[Path]) -> np.ndarray:
    """Pixels of small copies, float32 ``[N, 24 · 24 · 3]``."""
    from tlkeras.data.pipeline import pixel_batches

    found = np.empty((len(paths), RAW_SIDE_PX, RAW_SIDE_PX, 3), np.float32)
    for indices, pixels in pixel_batches([str(path) for path in paths], RAW_SIDE_PX, "stretch"):
        found[indices] = pixels
    return found.reshape(len(paths), -1)


def accuracies(rows: np.ndarray, labels: np.ndarray, splits: int) -> list[float]:
    """Test accuracy, 0..1, of the linear head on each of some stratified splits."""
    from tlkeras.heads.linear import unit_rows
    from tlkeras.heads.search import search_linear

    rows, found = unit_rows(rows), []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(labels))
        members = [order[labels[order] == label] for label in range(len(CLASSES))]
        test = np.concatenate([of_class[: round(TEST_SHARE * len(of_class))] for of_class in members])
        train = np.setdiff1d(order, test)
        head = search_linear(rows[train], labels[train], None, None, len(CLASSES), seed=seed).head
        found.append(float((head.logits(rows[test]).argmax(axis=1) == labels[test]).mean()))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many sets are drawn")
    parser.add_argument("--splits", type=int, default=5, help="random splits of each to average over")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    results: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        paths, labels = pictures(demo_folder(seed=seed))
        rows = {
            f"raw pixels, {RAW_SIDE_PX} px": raw_pixels(paths),
            "tlkeras_tiny, random weights": features(paths, "none"),
            "tlkeras_tiny, pretrained": features(paths, "pretrained"),
        }
        for name, matrix in rows.items():
            results.setdefault(name, []).extend(accuracies(matrix, labels, options.splits))
    for name, found in results.items():
        print(f"{name:30s}{np.mean(found):8.1%}  ± {np.std(found):.1%}")


if __name__ == "__main__":
    main()
