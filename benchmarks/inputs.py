"""How photos should become square, and whether a mirrored view pays: accuracy of the linear head on each.

    TLKERAS_ASSETS=… python -m benchmarks.inputs [--seeds 5] [--backbone mobilenet_v2] [--sizes 224 288]
        [--fits crop stretch] [--plain]

Defaults are chosen here, so no test photo is looked at: a figure is the cross-validated accuracy on the training part
of the splits of `benchmarks.heads` (cats vs dogs: its training photos), the mean over the seeds. The last column is
the mean difference to the first row over data sets and seeds, with the standard error of that mean; the splits overlap,
so the true error is rather larger.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import assets, data_sets, fix_threads, print_table
from tlkeras.images.resize import FITS


def cross_validated(features: np.ndarray, labels: np.ndarray, class_count: int, seed: int) -> float:
    """Accuracy, 0..1, of the linear head on the images that each fold holds out."""
    from tlkeras.heads.linear import unit_rows
    from tlkeras.heads.search import search_linear

    found = search_linear(unit_rows(features), labels, None, None, class_count, seed=seed)
    return next(row["accuracy"] for row in found.curve if row["strength"] == found.strength)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--sizes", type=int, nargs="+", help="sides in pixels; the backbone's own without it")
    parser.add_argument("--fits", choices=FITS, nargs="+", default=FITS)
    parser.add_argument("--plain", action="store_true", help="without mirrored views")
    options = parser.parse_args()
    assets()
    fix_threads()
    from tlkeras.backbones import get
    from tlkeras.data.audit import audit
    from tlkeras.data.open import open_dataset
    from tlkeras.data.splits import split
    from tlkeras.progress import Silent
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.fit import source_for

    backbone = get(options.backbone)
    sizes_px = options.sizes or [backbone.size_px]
    mirrors = (False,) if options.plain else (False, True)
    ways = [(size_px, fit, mirror) for size_px in sizes_px for fit in options.fits for mirror in mirrors]
    accuracies: dict[tuple[int, str, bool], np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        audits = {name: audit(open_dataset(path)) for name, path in data_sets(Path(folder)).items()}
        for way in ways:
            size_px, fit, mirror = way
            source = source_for(TrainConfig(options.backbone, size_px=size_px, fit=fit, mirror=mirror))
            found = []
            for checked in audits.values():
                features = source.of(checked.kept_verdicts, Silent()).matrix
                for seed in range(options.seeds):
                    images = split(checked.kept, checked.groups, test_fraction=0.3, seed=seed)
                    train = images.splits != "test"
                    found.append(cross_validated(features[train], images.labels[train], len(images.class_names), seed))
            accuracies[way] = 100 * np.reshape(found, (len(audits), options.seeds))
    default = accuracies[ways[0]]
    rows = []
    for way in ways:
        gains = accuracies[way] - default
        error = gains.std(ddof=1) / gains.size**0.5
        cells = [f"{mean:.2f} %" for mean in (*accuracies[way].mean(axis=1), accuracies[way].mean())]
        size_px, fit, mirror = way
        rows.append((size_px, fit, "averaged" if mirror else "no", *cells, f"{gains.mean():+.2f} ± {error:.2f}"))
    print_table(("px", "fit", "mirrored view", *audits, "mean", "to the first row"), rows)


if __name__ == "__main__":
    main()
