"""How hard the demo data set is: a linear head on raw pixels, on a random network and on a pretrained one.

The demo is worth showing when pretrained features win clearly. Prints the three accuracies side by side.
Needs scikit-learn and a MobileNet (alpha 0.25) weights file without its top.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image

from tlkeras.data.demo import CLASSES, CUT_OFF, EMPTY, TURNED, demo_folder

RAW_SIDE_PX, NETWORK_SIDE_PX = 24, 96


def pictures(folder: Path, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """All whole pictures as float32 [N,side,side,3] in 0..255 and their class numbers [N]."""
    images, labels = [], []
    for label, name in enumerate(CLASSES):
        for path in sorted((folder / name).iterdir()):
            if path.relative_to(folder).as_posix() in (CUT_OFF, EMPTY, TURNED):
                continue
            with Image.open(path) as image:
                small = image.convert("RGB").resize((side_px, side_px), Image.Resampling.BILINEAR)
            images.append(np.asarray(small, np.float32))
            labels.append(label)
    return np.stack(images), np.array(labels)


def network_features(images: np.ndarray, weights: str | None) -> np.ndarray:
    """MobileNet (alpha 0.25) features [N,256] of images in 0..255, with ``weights`` from a file or at random."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(0)
    shape = (NETWORK_SIDE_PX, NETWORK_SIDE_PX, 3)
    network = keras.applications.MobileNet(
        input_shape=shape, alpha=0.25, include_top=False, weights=weights, pooling="avg"
    )
    return network.predict(images / 127.5 - 1, batch_size=64, verbose=0)


def accuracy(features: np.ndarray, labels: np.ndarray, splits: int) -> tuple[float, float]:
    """Mean and deviation of a logistic regression's test accuracy over stratified 70/30 splits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = []
    for train, test in StratifiedShuffleSplit(splits, test_size=0.3, random_state=0).split(features, labels):
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        scores.append(head.fit(features[train], labels[train]).score(features[test], labels[test]))
    return float(np.mean(scores)), float(np.std(scores))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="MobileNet alpha 0.25 no-top weights (.h5)")
    parser.add_argument("--per-class", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--splits", type=int, default=5, help="random 70/30 splits to average over")
    options = parser.parse_args()
    folder = demo_folder(seed=options.seed, per_class=options.per_class)
    raw, labels = pictures(folder, RAW_SIDE_PX)
    images, _ = pictures(folder, NETWORK_SIDE_PX)
    rows = {
        f"raw pixels, {RAW_SIDE_PX} px": raw.reshape(len(raw), -1),
        "random MobileNet 0.25": network_features(images, None),
        "pretrained MobileNet 0.25": network_features(images, options.weights),
    }
    for name, features in rows.items():
        mean, deviation = accuracy(features, labels, options.splits)
        print(f"{name:28s}{mean:8.1%}  ± {deviation:.1%}")


if __name__ == "__main__":
    main()
