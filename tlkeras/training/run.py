"""The main job, step by step: data in, a run directory out.

A run directory holds ``run.json`` (what was asked for, what was done, with which versions), ``audit.json``,
``splits.csv``, ``metrics.json``, ``predictions.csv``, ``calibration.json``, ``label_issues.csv`` and the folder
``classifier``. It appears whole at the end; until then the computed features wait in the cache. ``report.html`` is
made from these files by the command line.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.data.dataset import LabelledImages
from tlkeras.data.open import open_dataset
from tlkeras.errors import DataError
from tlkeras.progress import Reporter, Silent
from tlkeras.storage import new_folder, staged_folder, write_bytes, write_json
from tlkeras.trained import versions
from tlkeras.training.config import TrainConfig
from tlkeras.training.fit import Clock, Fitted, fit
from tlkeras.training.judge import Judgement, judge_features, with_class_names
from tlkeras.training.records import csv_bytes, write_records

RUNS_FOLDER = "runs"


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, what was fitted, and how good it is on the test split."""

    folder: Path
    fitted: Fitted
    judgement: Judgement
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras train --json`` prints."""
        extraction = self.fitted.features.extraction
        return {
            "run": str(self.folder),
            "classifier": str(self.folder / "classifier"),
            "class_names": list(self.fitted.images.class_names),
            "audit": self.fitted.audit.counts(),
            "features": {"computed": extraction.computed, "reused": extraction.reused, "engine": extraction.engine},
            "evaluation": self.judgement.evaluation.to_json(),
            "calibration": asdict(self.fitted.calibration),
            "seconds": self.seconds,
        }


def train(
    config: TrainConfig,
    data: str | Path,
    *,
    out: str | Path | None = None,
    test_data: str | Path | None = None,
    data_dir: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Train on ``data``, measure on its test split (or on ``test_data``), write a run directory.

    ``out``: the directory, which must not exist; by default ``runs/<data>-<backbone>-<number>``.

    Raises: DataError, ConfigError, WeightsError, StorageError.
    """
    reporter = reporter or Silent()
    clock = Clock()
    if out is not None:
        new_folder(out, RUNS_FOLDER, "")  # refused before the work, not after it
    dataset = open_dataset(data, data_dir=data_dir, seed=config.seed)
    if test_data is not None:
        dataset = joined(dataset, open_dataset(test_data, data_dir=data_dir, seed=config.seed))
    reporter.say(dataset.describe())
    fitted = fit(config, dataset, reporter)
    test = np.flatnonzero(fitted.images.splits == "test")
    judgement = judge_features(fitted.classifier, fitted.images.subset(test), fitted.features.matrix[test])
    folder = new_folder(out, RUNS_FOLDER, f"{dataset.name}-{config.backbone}")
    clock.stop("all")
    run = Run(folder, fitted, judgement, clock.seconds["all"])
    _write(run, config, dataset, data, test_data)
    return run


def joined(train: LabelledImages, test: LabelledImages) -> LabelledImages:
    """Two data sets as one: the first for training, all of the second as the test split.

    Raises: DataError when the first has a test split already, or the second has other classes.
    """
    if (train.splits == "test").any():
        raise DataError(f"'{train.name}' has a test split already", next_step="Leave out --test.")
    test = with_class_names(test, train.class_names)
    return replace(
        train,
        paths=(*train.paths, *test.paths),
        labels=np.concatenate([train.labels, test.labels]),
        # A training set without splits becomes all "train", from which validation is carved.
        splits=np.concatenate([np.where(train.splits == "", "train", train.splits), np.full(len(test), "test")]),
    )


def _write(run: Run, config: TrainConfig, dataset: LabelledImages, data: Any, test_data: Any) -> None:
    fitted, judgement = run.fitted, run.judgement
    with staged_folder(run.folder) as staged:
        fitted.classifier.save(staged / "classifier")
        write_json(staged / "audit.json", fitted.audit.to_json())
        write_json(staged / "metrics.json", judgement.evaluation.to_json())
        write_bytes(staged / "splits.csv", _splits_csv(fitted))
        write_bytes(staged / "predictions.csv", _predictions_csv(judgement))
        write_records(staged, fitted, judgement, seed=config.seed)
        extraction = fitted.features.extraction
        described = {
            "data": str(data),
            "test_data": None if test_data is None else str(test_data),
            "source": dataset.source,
            "class_names": list(dataset.class_names),
            "images": {name: int((fitted.images.splits == name).sum()) for name in ("train", "validation", "test")},
            "config": config.to_json(),
            "features": {
                "computed": extraction.computed,
                "reused": extraction.reused,
                "engine": extraction.engine,
                "difference_from_keras": extraction.difference,
            },
            "head": fitted.head.description,
            "calibration": asdict(fitted.calibration),
            "seconds": {**fitted.seconds, "all": run.seconds},
            "environment": {"python": platform.python_version(), "platform": platform.platform(), **versions()},
        }
        write_json(staged / "run.json", described)


def _splits_csv(fitted: Fitted) -> bytes:
    images = fitted.images
    names = [images.class_names[label] for label in images.labels]
    return csv_bytes(["path", "label", "split"], zip(images.paths, names, images.splits, strict=True))


def _predictions_csv(judgement: Judgement) -> bytes:
    images, probabilities = judgement.images, judgement.probabilities
    best = probabilities.argmax(axis=1)
    rows = (
        (path, images.class_names[label], images.class_names[top], f"{row[top]:.6f}")
        for path, label, top, row in zip(images.paths, images.labels, best, probabilities, strict=True)
    )
    return csv_bytes(["path", "label", "predicted", "probability"], rows)
