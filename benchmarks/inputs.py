"""How photos should become square, and whether a mirrored view pays: accuracy of the linear head on each.

    TLKERAS_ASSETS=… python -m benchmarks.inputs [--seeds 5] [--backbone mobilenet_v2]

Defaults are chosen here, so no test photo is looked at: a figure is the cross-validated accuracy on the training part
of the splits of `benchmarks.heads` (cats vs dogs: its training photos), the mean over the seeds.
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
    options = parser.parse_args()
    assets()
    fix_threads()
    from tlkeras.data.audit import audit
    from tlkeras.data.open import open_dataset
    from tlkeras.data.splits import split
    from tlkeras.progress import Silent
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.source import source_for

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        audits = {name: audit(open_dataset(path)) for name, path in data_sets(Path(folder)).items()}
        for fit in FITS:
            for mirror in (False, True):
                source = source_for(TrainConfig(options.backbone, fit=fit, mirror=mirror))
                means = []
                for checked in audits.values():
                    features = source.of(checked.kept_verdicts, Silent()).matrix
                    accuracies = []
                    for seed in range(options.seeds):
                        images = split(checked.kept, checked.groups, test_fraction=0.3, seed=seed)
                        train = images.splits != "test"
                        parts = features[train], images.labels[train]
                        accuracies.append(cross_validated(*parts, len(images.class_names), seed))
                    means.append(100 * float(np.mean(accuracies)))
                cells = [f"{mean:.2f} %" for mean in (*means, np.mean(means))]
                rows.append((fit, "averaged" if mirror else "no", *cells))
    print_table(("fit", "mirrored view", *audits, "mean"), rows)


if __name__ == "__main__":
    main()
