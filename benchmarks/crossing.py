"""Every photo teaches and every photo judges: what that gains on photos that nobody has, and whether it is honest.

    TLKERAS_ASSETS=… python -m benchmarks.crossing [--seeds 5] [--data flowers …] [--peer]
    python -m benchmarks.crossing --simulate 300
    TLKERAS_ASSETS=… python -m benchmarks.crossing --uneven

Features: MobileNetV2 with ImageNet weights, 224 px, by the default recipe of `tlkeras train`. For each seed 30 % of the
photos are put aside: they are the new photos that the delivered classifier is asked about. Before: of the other 70 %
a part of 15 % measures, the rest teaches. Now: all 70 % teach, and heads in folds measure on all of them. `--peer`
does the same by scikit-learn: LogisticRegressionCV inside StratifiedKFold, and once on all, for the first seed.
`--simulate` draws data sets, and counts how often the 95 % interval holds the accuracy that the head on all photos
has on 20,000 new ones. `--uneven` takes few photos of one class, and asks for the mean recall over classes of all
others with and without `--balance`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks.common import THREADS, assets, data_sets, fix_threads, print_table

# Images, classes, features, distance of the classes' means, how much smaller each further axis is.
DRAWN = (
    (60, 2, 32, 2.0, 0.0),
    (200, 3, 6, 2.0, 0.0),
    (200, 3, 64, 1.2, 0.5),
    (240, 4, 64, 2.2, 0.0),
    (600, 2, 128, 1.6, 0.0),
)


def crossed(X, y, class_count: int, seed: int, groups=None):
    """The head on all, and the evaluation of its crossing."""
    from tlkeras.evaluation.metrics import Answers, evaluate_answers
    from tlkeras.heads.logits import softmax
    from tlkeras.heads.search import search_linear

    found = search_linear(X, y, None, None, class_count, seed=seed, groups=groups, crossed=True)
    of = found.crossing
    logits = found.held_out_logits / of.temperatures[of.folds][:, None].astype(np.float32)
    rows = found.held_out_indices
    return found, evaluate_answers(
        Answers.of(softmax(logits), y[rows]),
        [str(label) for label in range(class_count)],
        groups=None if groups is None else groups[rows],
        folds=len(of.temperatures),
        instability=of.instability,
    )


def simulate(count: int) -> None:
    from tlkeras.evaluation.metrics import accuracy_interval

    rows = []
    for images, classes, size, distance, decay in DRAWN:
        scale = np.arange(1, size + 1) ** -decay
        means = np.zeros((classes, size))
        means[np.arange(classes), np.arange(classes)] = distance
        held, plainly, widths, errors, trues = 0, 0, [], [], []
        for seed in range(count):
            random = np.random.default_rng(seed)
            labels, unseen = np.arange(images) % classes, np.arange(20_000) % classes
            X, new = ((random.normal(size=(len(of), size)) * scale + means[of]) for of in (labels, unseen))
            found, evaluation = crossed(X.astype(np.float32), labels, classes, seed)
            true = float(np.mean(found.head.logits(new.astype(np.float32)).argmax(1) == unseen))
            low, high = evaluation.accuracy_interval
            held += low <= true <= high
            plain = accuracy_interval(round(evaluation.accuracy * images), images)
            plainly += plain[0] <= true <= plain[1]
            widths.append(high - low)
            errors.append(evaluation.accuracy - true)
            trues.append(true)
        rows.append(
            (
                images,
                classes,
                size,
                f"{100 * np.mean(trues):.1f} %",
                f"{100 * np.mean(errors):+.1f}",
                f"{100 * np.mean(widths) / 2:.1f}",
                f"{100 * held / count:.1f} %",
                f"{100 * plainly / count:.1f} %",
            )
        )
    print_table(
        ("photos", "classes", "features", "true accuracy", "stated less true, points", "± of the interval, points",
         "holds the true one", "Wilson's alone would"),
        rows,
    )  # fmt: skip


# A data set, which of its classes, and photos of each.
UNEVEN = (
    ("cats vs dogs", (0, 1), (400, 3)),
    ("cats vs dogs", (0, 1), (1000, 30)),
    ("flowers", (0, 1, 2, 3, 4), (100, 10, 40, 5, 20)),
)


def uneven(sets: dict[str, Path], features, seeds: int) -> None:
    """``features``: gives unit rows and labels of a data set."""
    from tlkeras.heads.search import search_linear

    rows = []
    for name, classes, counts in UNEVEN:
        X, y = features(sets[name])
        found: dict[str, list[tuple[float, ...]]] = {"none": [], "classes": [], "auto": []}
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            shuffled = [random.permutation(np.flatnonzero(y == label)) for label in classes]
            taught = np.concatenate([of[:count] for of, count in zip(shuffled, counts, strict=True)])
            others = [of[count:] for of, count in zip(shuffled, counts, strict=True)]
            label_of = np.zeros(int(y.max()) + 1, np.int64)
            label_of[list(classes)] = np.arange(len(classes))
            for balance, figures in found.items():
                began = time.perf_counter()
                made = search_linear(X[taught], label_of[y[taught]], None, None, len(classes), seed=seed,
                                     crossed=True, balance=balance)  # fmt: skip
                seconds = time.perf_counter() - began
                recalls = [np.mean(made.head.logits(X[of]).argmax(1) == label) for label, of in enumerate(others)]
                figures.append((np.mean(recalls), made.balance == "classes", seconds))
        none, same, auto = (np.mean(figures, axis=0) for figures in found.values())
        rows.append(
            (name, " : ".join(map(str, counts)), *(f"{100 * one[0]:.1f} %" for one in (none, same, auto)),
             f"{auto[1] * seeds:.0f} of {seeds}", f"{none[2]:.2f}", f"{auto[2]:.2f}")
        )  # fmt: skip
    print_table(
        ("data", "photos", "mean recall, none", "classes", "auto", "auto balances", "seconds, none", "auto"), rows
    )


def peer(X, y, new_X, new_y, seed: int) -> tuple[float, float, float]:
    """scikit-learn: accuracy out of fold and of the head on all for new photos, and seconds."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = time.perf_counter()
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=folds, max_iter=1000, n_jobs=THREADS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer members than folds
        out_of_fold = cross_val_predict(model, X, y, cv=folds)
        model.fit(X, y)
    seconds = time.perf_counter() - started
    return float(np.mean(out_of_fold == y)), float(model.score(new_X, new_y)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", metavar="NAME", help="only these data sets, as the table names them")
    parser.add_argument("--peer", action="store_true", help="scikit-learn beside it, for the first seed")
    parser.add_argument("--simulate", type=int, metavar="COUNT", help="draw so many data sets instead")
    parser.add_argument("--uneven", action="store_true", help="classes of unequal size instead")
    options = parser.parse_args()
    if options.simulate:
        simulate(options.simulate)
        return
    assets()
    fix_threads()
    from tlkeras.data.audit import audit
    from tlkeras.data.open import open_dataset
    from tlkeras.data.splits import split
    from tlkeras.evaluation.metrics import accuracy_interval
    from tlkeras.heads.linear import unit_rows
    from tlkeras.heads.search import search_linear
    from tlkeras.progress import Silent
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.source import source_for

    source = source_for(TrainConfig())
    rows, peers = [], []
    with tempfile.TemporaryDirectory() as folder:
        sets = data_sets(Path(folder))
        if options.uneven:

            def features(path: Path):
                checked = audit(open_dataset(path))
                return unit_rows(source.of(checked.kept_verdicts, Silent()).matrix), checked.kept.labels

            uneven(sets, features, options.seeds)
            return
        for name in options.data or sets:
            checked = audit(open_dataset(sets[name]))
            X = unit_rows(source.of(checked.kept_verdicts, Silent()).matrix)
            kept = checked.kept.with_splits(np.full(len(checked.kept), ""))
            y, groups, classes = kept.labels.astype(np.int64), checked.groups, len(kept.class_names)
            found = []
            for seed in range(options.seeds):
                new = split(kept, groups, test_fraction=0.3, validation_fraction=None, seed=seed).splits == "test"
                rest = np.flatnonzero(~new)
                began = time.perf_counter()
                parted = split(kept.subset(rest), groups[rest], validation_fraction=None, seed=seed).splits == "test"
                taught, tested = rest[~parted], rest[parted]
                old = search_linear(X[taught], y[taught], None, None, classes, seed=seed, groups=groups[taught])
                right = old.head.logits(X[tested]).argmax(1) == y[tested]
                before = time.perf_counter()
                now, evaluation = crossed(X[rest], y[rest], classes, seed, groups[rest])
                after = time.perf_counter()
                low, high = accuracy_interval(int(right.sum()), len(right))
                on_new = [np.mean(head.logits(X[new]).argmax(1) == y[new]) for head in (old.head, now.head)]
                width = evaluation.accuracy_interval[1] - evaluation.accuracy_interval[0]
                found.append((*on_new, right.mean(), evaluation.accuracy, (high - low) / 2, width / 2,
                              before - began, after - before))  # fmt: skip
                if options.peer and seed == 0:
                    theirs = peer(X[rest], y[rest], X[new], y[new], seed)
                    peers.append(
                        (name, f"{100 * evaluation.accuracy:.1f} %", f"{100 * theirs[0]:.1f} %",
                         f"{100 * on_new[1]:.1f} %", f"{100 * theirs[1]:.1f} %", f"{after - before:.2f}",
                         f"{theirs[2]:.1f}")
                    )  # fmt: skip
            m = np.mean(found, axis=0)
            rows.append(
                (name, len(taught), len(rest), int(new.sum()), *(f"{100 * share:.1f} %" for share in m[:4]),
                 *(f"{100 * width:.1f}" for width in m[4:6]), *(f"{seconds:.2f}" for seconds in m[6:]))
            )  # fmt: skip
    print_table(
        ("data", "taught before", "now", "new photos", "right of the new before", "now", "stated before", "now",
         "± before", "now", "seconds before", "now"),
        rows,
    )  # fmt: skip
    if peers:
        print_table(
            ("data", "stated", "scikit-learn's", "right of the new", "scikit-learn's", "seconds", "scikit-learn's"),
            peers,
        )


if __name__ == "__main__":
    main()
