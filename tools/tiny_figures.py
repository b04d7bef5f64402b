"""What ``tlkeras_tiny`` is good for: a linear head on its features of photos that it has never seen, as a table.

    TLKERAS_ASSETS=… python -m tools.tiny_figures [--snapshots FOLDER]

Beside it stand the same network with random weights, and with ``--snapshots`` the weights that the pretraining kept
on its way. The test photos are those that ``tools.tiny_photos`` holds out of the pretraining.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tools.tiny_photos import HELD_OUT, SHARED, assets, held_out_of_class

CATS_AND_DOGS_PER_CLASS = 500


def tasks(root: Path) -> Iterator[tuple[str, list[Path], list[Path]]]:
    """Name, training photos and test photos of each data set; the class is the folder's name."""
    cats_and_dogs = root / HELD_OUT[0].partition("/")[0]
    training = [
        path
        for class_folder in sorted((cats_and_dogs / "train").iterdir())
        for path in sorted(class_folder.glob("*.jpg"))[:CATS_AND_DOGS_PER_CLASS]
    ]
    yield "cats vs dogs", training, sorted((cats_and_dogs / "test").rglob("*.jpg"))
    for name in SHARED:
        test = {path for class_folder in (root / name).iterdir() for path in held_out_of_class(class_folder)}
        yield name.replace("_", " "), sorted(set((root / name).rglob("*.jpg")) - test), sorted(test)


def features(paths: list[Path], weights: str) -> np.ndarray:
    """Features float32 ``[N, 256]`` of the network with some weights, not stored."""
    import keras

    from tlkeras.backbones.frozen import frozen
    from tlkeras.data.pipeline import pixel_batches
    from tlkeras.engines import open_engine
    from tlkeras.training.config import TrainConfig

    config = TrainConfig("tlkeras_tiny", weights=weights)
    keras.utils.set_random_seed(0)
    backbone = frozen(config.backbone, weights)
    found = np.empty((len(paths), backbone.feature_size), np.float32)
    engine = open_engine(backbone)
    for indices, pixels in pixel_batches([str(path) for path in paths], config.side_px, config.fit):
        found[indices] = engine.run(pixels)
    return found


def accuracy(training: list[Path], test: list[Path], weights: str) -> float:
    """Test accuracy, 0..1, of the product's own linear head."""
    from tlkeras.heads.linear import unit_rows
    from tlkeras.heads.search import search_linear

    names = sorted({path.parent.name for path in training})
    labels = [np.array([names.index(path.parent.name) for path in paths]) for paths in (training, test)]
    rows = [unit_rows(features(paths, weights)) for paths in (training, test)]
    head = search_linear(rows[0], labels[0], None, None, len(names), seed=0).head
    return float((head.logits(rows[1]).argmax(axis=1) == labels[1]).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snapshots", type=Path, help="the folder that tools.pretrain_tiny worked in")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    root = assets() / "photos"
    columns = {"random weights": "none"}
    if options.snapshots:
        for path in sorted(options.snapshots.glob("snapshot-*.weights.h5")):
            columns[f"after {int(path.name.split('-')[1].split('.')[0]):,} steps"] = str(path)
    columns["tlkeras_tiny"] = "pretrained"
    print("| data | train | test | " + " | ".join(columns) + " |")
    print("|---" * (3 + len(columns)) + "|")
    for name, training, test in tasks(root):
        cells = [f"{100 * accuracy(training, test, weights):.1f} %" for weights in columns.values()]
        print(f"| {name} | {len(training):,} | {len(test):,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
