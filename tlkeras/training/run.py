"""The main job, step by step: data in, a run directory out.

A run directory holds ``run.json`` (what was asked for, what was done, with which versions), ``audit.json``,
``splits.csv``, ``metrics.json``, ``predictions.csv``, ``calibration.json``, ``label_issues.csv``, the folder
``classifier``, and after fine-tuning ``fine_tuning.json``. It appears whole at the end; until then the computed
features wait in the cache, and the state of fine-tuning in a folder beside it, ``….unfinished``. ``report.html`` is
made from these files by the command line.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.data.dataset import LabelledImages
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError, DataError, InterruptedRunError, WeightsError
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.locks import reserved
from tlkeras.progress import Reporter, Silent
from tlkeras.storage import csv_bytes, new_folder, staged_folder, unfinished, write_bytes, write_json
from tlkeras.trained import versions
from tlkeras.training.config import TrainConfig
from tlkeras.training.fit import Clock, Fitted, fit, starting_point
from tlkeras.training.judge import Judgement, judge_features, judge_kept, with_class_names
from tlkeras.training.records import write_records
from tlkeras.training.unfinished import Asked, alone, forget, named

if TYPE_CHECKING:
    from tlkeras.fine_tuning.rate_finder import FoundRate

RUNS_FOLDER = "runs"


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, what was fitted, and how good it is on the test split.

    frozen_judgement: how good the frozen classifier is there; the same where it was kept.
    """

    folder: Path
    fitted: Fitted
    judgement: Judgement
    seconds: float
    frozen_judgement: Judgement

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
            "fine_tuning": self.fine_tuning(),
            "seconds": self.seconds,
        }

    def fine_tuning(self) -> dict[str, Any] | None:
        """What came of fine-tuning, with both test figures where the fine-tuned network was kept; None without it."""
        if self.fitted.fine_tuning is None:
            return None
        figures = {"frozen": self.frozen_judgement, "kept": self.judgement}
        measured = {
            name: {"accuracy": j.evaluation.accuracy, "accuracy_interval": list(j.evaluation.accuracy_interval),
                   "log_loss": j.evaluation.log_loss, "images": j.evaluation.images}
            for name, j in figures.items()
        }  # fmt: skip
        return {**self.fitted.fine_tuning.to_json(), "test": measured}


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
    if out is not None:
        new_folder(out, RUNS_FOLDER, "")  # refused before the work, not after it
    asked = Asked(
        config, str(data), None if test_data is None else str(test_data), None if data_dir is None else str(data_dir)
    )
    dataset = opened(asked)
    # The name is ours before the work begins, and that it can be written is known then.
    with reserved(out, RUNS_FOLDER, f"{dataset.name}-{config.backbone}") as folder:
        if config.fine_tune is None:
            return _train(asked, dataset, folder, reporter)
        Asked.of(config, data, test_data, data_dir).write(folder)
        try:
            return _train_resumably(asked, dataset, folder, reporter)
        except (ConfigError, DataError, WeightsError):
            # None of them gets better by trying again (too little memory among them); nothing half written is left.
            forget(folder)
            raise


def resume(folder: str | Path, *, reporter: Reporter | None = None) -> Run:
    """Go on with a run that was interrupted or killed, to the end that it would have had.

    ``folder``: the run directory that it was to write.

    Raises: ConfigError when there is no such run; ClassifierError, StorageError when what is kept of it is damaged;
    DataError when its photos have changed; and what ``train`` raises.
    """
    folder = named(folder)
    if folder.is_dir() and unfinished(folder).is_dir():
        forget(folder)  # it was killed after the directory had appeared
    asked = Asked.read(folder)
    return _train_resumably(asked, opened(asked), folder, reporter or Silent())


def opened(asked: Asked) -> LabelledImages:
    """The data that a run was asked to train on, the test data joined to it.

    Raises: DataError, ConfigError.
    """
    how: dict[str, Any] = {"data_dir": asked.data_dir, "seed": asked.config.seed}
    dataset = open_dataset(asked.data, **how, **asked.config.layout)
    if asked.test_data is not None:
        layout = asked.config.layout if Path(asked.test_data).is_dir() else {}
        dataset = joined(dataset, open_dataset(asked.test_data, **how, **layout, for_training=False))
    return dataset


def find_rate(
    config: TrainConfig,
    data: str,
    *,
    out: str | Path | None = None,
    test_data: str | None = None,
    data_dir: str | None = None,
    reporter: Reporter | None = None,
) -> FoundRate:
    """Look for the learning rate of fine-tuning on ``data``: see ``tlkeras.fine_tuning.rate_finder``.

    The folder ``out`` gets ``rate_finder.json`` and ``rate_finder.png``.

    Raises: DataError, ConfigError, WeightsError, StorageError; OutOfMemoryError.
    """
    from tlkeras.fine_tuning.rate_finder import find_rate as found_from
    from tlkeras.fine_tuning.rate_finder import write_rate

    reporter = reporter or Silent()
    if out is not None:
        new_folder(out, RUNS_FOLDER, "")
    dataset = opened(Asked(config, data, test_data, data_dir))
    fitted = fit(replace(config, fine_tune=None), dataset, reporter)
    found = found_from(starting_point(fitted, config.seed), config.fine_tune or FineTuneConfig(), reporter)
    return write_rate(found, new_folder(out, RUNS_FOLDER, f"{dataset.name}-{config.backbone}-rate"))


def _train_resumably(asked: Asked, dataset: LabelledImages, folder: Path, reporter: Reporter) -> Run:
    how = f"'tlkeras train --resume {folder}' goes on from there."
    with alone(folder):
        try:
            run = _train(asked, dataset, folder, reporter, how)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted; what was finished is kept", next_step=how) from None
        forget(folder)
    return run


def _train(asked: Asked, dataset: LabelledImages, folder: Path, reporter: Reporter, how_to_resume: str = "") -> Run:
    clock = Clock()
    config = asked.config
    for line in dataset.report():
        reporter.say(line)
    state_folder = None if config.fine_tune is None else unfinished(folder)
    fitted = fit(config, dataset, reporter, state_folder=state_folder, how_to_resume=how_to_resume)
    rows = np.flatnonzero(fitted.images.splits == "test")
    test = fitted.images.subset(rows)
    frozen = judgement = judge_features(fitted.frozen, test, fitted.features.matrix[rows])
    if fitted.classifier is not fitted.frozen:
        verdicts = [fitted.verdicts[row] for row in rows]
        # So few photos do not pay for the conversion to another engine.
        judgement = judge_kept(fitted.classifier, test, verdicts, engine="tensorflow", reporter=reporter)
    clock.stop("all")
    run = Run(folder, fitted, judgement, clock.seconds["all"], frozen)
    _write(run, asked, dataset)
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


def _write(run: Run, asked: Asked, dataset: LabelledImages) -> None:
    fitted, judgement = run.fitted, run.judgement
    tuning = run.fine_tuning()
    kept = {} if tuning is None else {"fine_tuning": {"kept": tuning["kept"], "reason": tuning["reason"]}}
    with staged_folder(run.folder) as staged:
        fitted.classifier.save(staged / "classifier")
        write_json(staged / "audit.json", fitted.audit.to_json())
        write_json(staged / "metrics.json", {**judgement.evaluation.to_json(), **kept})
        if tuning is not None:
            write_json(staged / "fine_tuning.json", tuning)
        write_bytes(staged / "splits.csv", _splits_csv(fitted))
        write_bytes(staged / "predictions.csv", _predictions_csv(judgement))
        write_records(staged, fitted, judgement, seed=asked.config.seed)
        extraction = fitted.features.extraction
        described = {
            "data": asked.data,
            "test_data": asked.test_data,
            "source": dataset.source,
            "class_names": list(dataset.class_names),
            "images": {name: int((fitted.images.splits == name).sum()) for name in ("train", "validation", "test")},
            "config": asked.config.to_json(),
            **kept,
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
