"""How the temperature is best fitted on few photos: log loss on all the others, with and without smoothed labels.

    TLKERAS_ASSETS=… python -m benchmarks.temperature [--seeds 10] [--photos 20 40 100 500]

Features: MobileNetV2 with ImageNet weights, 224 px. So many photos are drawn, classes as even as can be, and a linear
head is fitted on them; its temperature comes from the held-out logits of its search. All other photos measure it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import scipy.optimize

from benchmarks.common import assets, data_sets, print_table


def unsmoothed(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of least log loss on labels as they are, in 0.05..20."""
    from tlkeras.heads.logits import log_losses

    found = scipy.optimize.minimize_scalar(
        lambda log: float(log_losses(logits, labels, float(np.exp(log))).mean()),
        bounds=np.log([0.05, 20.0]),
        method="bounded",
    )
    return float(np.exp(found.x))


def drawn(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A mask of ``count`` photos, as evenly over the classes as there are."""
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels), int)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        place[of_class] = np.arange(len(of_class))
    mask = np.zeros(len(labels), bool)
    mask[order[np.argsort(place[order], kind="stable")][:count]] = True
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--photos", type=int, nargs="+", default=[20, 40, 100, 500])
    options = parser.parse_args()
    assets()
    from tlkeras.data.audit import audit
    from tlkeras.data.open import open_dataset
    from tlkeras.heads.linear import unit_rows
    from tlkeras.heads.logits import fit_temperature, log_losses
    from tlkeras.heads.search import search_linear
    from tlkeras.progress import Silent
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.source import source_for

    source, rows = source_for(TrainConfig()), []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in data_sets(Path(folder)).items():
            checked = audit(open_dataset(path))
            features = unit_rows(source.of(checked.kept_verdicts, Silent()).matrix)
            labels, classes = checked.kept.labels, len(checked.kept.class_names)
            for count in options.photos:
                if count < 2 * classes:
                    continue
                losses, at_bound = [], 0
                for seed in range(options.seeds):
                    mask = drawn(labels, count, seed)
                    found = search_linear(features[mask], labels[mask], None, None, classes, seed=seed)
                    held_out = found.held_out_logits, found.held_out_labels
                    logits = found.head.logits(features[~mask])
                    plain = unsmoothed(*held_out)
                    at_bound += plain < 0.051
                    losses.append(
                        [log_losses(logits, labels[~mask], t).mean() for t in (1.0, plain, fit_temperature(*held_out))]
                    )
                means = [f"{mean:.4f}" for mean in np.mean(losses, axis=0)]
                rows.append((name, count, len(labels) - count, *means, f"{at_bound} of {options.seeds}"))
    print_table(
        ("data", "photos", "measured on", "no temperature", "labels as they are", "smoothed", "at 0.05 without"), rows
    )


if __name__ == "__main__":
    main()
