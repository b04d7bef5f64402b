"""Our linear head against scikit-learn's LogisticRegressionCV: same features, same split, both timed.

    TLKERAS_ASSETS=… python -m benchmarks.heads [--seeds 5] [--data flowers "steel defects"]

Features: MobileNetV2 with ImageNet weights, 224 px, by the default recipe of `tlkeras train`. Splits: 70 % train
and validation, 30 % test, stratified and seeded (cats vs dogs: its own test photos). scikit-learn gets the same
standardised features, 10 strengths, 5 folds and its own choice among them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks.common import THREADS, assets, data_sets, fix_threads, print_table


def sklearn_head(train_X, train_y, test_X, test_y, seed: int) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = time.perf_counter()
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=folds, max_iter=1000, n_jobs=THREADS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer members than folds
        model.fit(train_X, train_y)
    return float(model.score(test_X, test_y)), time.perf_counter() - started


def our_head(train_X, train_y, test_X, test_y, class_count: int, seed: int) -> tuple[float, float]:
    from tlkeras.heads.linear import unit_rows
    from tlkeras.heads.search import search_linear

    started = time.perf_counter()
    result = search_linear(unit_rows(train_X), train_y, None, None, class_count, seed=seed)
    accuracy = float((result.head.logits(unit_rows(test_X)).argmax(axis=1) == test_y).mean())
    return accuracy, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", metavar="NAME", help="only these data sets, as the table names them")
    options = parser.parse_args()
    seeds = options.seeds
    assets()
    fix_threads()
    from tlkeras.data.audit import audit
    from tlkeras.data.open import open_dataset
    from tlkeras.data.splits import split
    from tlkeras.progress import Silent
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.source import source_for

    source = source_for(TrainConfig())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = data_sets(Path(folder))
        for name in options.data or chosen:
            path = chosen[name]
            checked = audit(open_dataset(path))
            features = source.of(checked.kept_verdicts, Silent()).matrix
            figures: dict[str, list[tuple[float, float]]] = {"ours": [], "sklearn": []}
            for seed in range(seeds):
                images = split(checked.kept, checked.groups, test_fraction=0.3, seed=seed)
                test = images.splits == "test"
                parts = features[~test], images.labels[~test], features[test], images.labels[test]
                figures["ours"].append(our_head(*parts, len(images.class_names), seed))
                figures["sklearn"].append(sklearn_head(*parts, seed))
            (ours, ours_s), (theirs, theirs_s) = (np.mean(figures[who], axis=0) for who in ("ours", "sklearn"))
            rows.append(
                (
                    name,
                    int((~test).sum()),
                    int(test.sum()),
                    f"{100 * ours:.2f} %",
                    f"{100 * theirs:.2f} %",
                    f"{ours_s:.2f}",
                    f"{theirs_s:.2f}",
                    f"{theirs_s / ours_s:.0f} ×",
                )
            )
    print_table(
        ("data", "train", "test", "tlkeras", "LogisticRegressionCV", "tlkeras, s", "scikit-learn, s", "faster"), rows
    )


if __name__ == "__main__":
    main()
