"""The main job, step by step: data in, a run directory out.

A run directory holds ``run.json`` (what was asked for, what was in effect, what was done, with which versions),
``audit.json``, ``splits.csv``, ``metrics.json``, ``predictions.csv``, ``calibration.json``, ``label_issues.csv``, the
folder ``classifier``, and after fine-tuning ``fine_tuning.json``, whether the data were files or stored features. It
appears whole at the end; until then the computed features wait in the cache, and the state of fine-tuning in a folder
beside it, ``….unfinished``. ``report.html`` is made from these files by the command line.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.data.dataset import SPLITS, LabelledImages
from tlkeras.errors import ConfigError, DataError, InterruptedRunError, WeightsError
from tlkeras.evaluation.metrics import measured_words
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.json_csv import csv_bytes
from tlkeras.locks import reserved
from tlkeras.progress import Reporter, Silent
from tlkeras.run_facts import CALIBRATION_FILE, FORMAT_VERSION, ISSUES_FILE
from tlkeras.storage import new_folder, staged_folder, unfinished, write_bytes, write_json
from tlkeras.trained import versions
from tlkeras.training.config import TrainConfig
from tlkeras.training.fit import Clock, Fitted, fit, starting_point
from tlkeras.training.measure import Measurement, label_issue_rows, measure_features, measure_kept, measure_out_of_fold
from tlkeras.training.source import Data, StoredImages, images_of, in_effect, open_data, with_class_names
from tlkeras.training.unfinished import RunRequest, alone, forget, named

if TYPE_CHECKING:
    from tlkeras.fine_tuning.rate_finder import FoundRate

RUNS_FOLDER = "runs"
_PREDICTION_COLUMNS = ("path", "label", "predicted", "probability", "label_probability")
_ISSUE_COLUMNS = ("path", "label", "split", "suggested", "label_probability", "suggested_probability")


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, what was fitted, and how good it is on the test split.

    frozen_measurement: how good the frozen classifier is there; the same where it was kept.
    """

    folder: Path
    fitted: Fitted
    measurement: Measurement
    seconds: float
    frozen_measurement: Measurement

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras train --json`` prints."""
        extraction = self.fitted.features.extraction
        return {
            "run": str(self.folder),
            "classifier": str(self.folder / "classifier"),
            "class_names": list(self.fitted.images.class_names),
            "audit": self.fitted.audit.counts(),
            "features": {"computed": extraction.computed, "reused": extraction.reused, "engine": extraction.engine},
            "head": self.fitted.head.description,
            "evaluation": self.measurement.evaluation.to_json(),
            "calibration": asdict(self.fitted.calibration),
            "fine_tuning": self.fine_tuning(),
            "seconds": self.seconds,
        }

    def fine_tuning(self) -> dict[str, Any] | None:
        """What came of fine-tuning, with both test figures where the fine-tuned network was kept; None without it."""
        if self.fitted.fine_tuning is None:
            return None
        figures = {"frozen": self.frozen_measurement, "kept": self.measurement}
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

    ``data``: see ``tlkeras.training.source.open_data``. ``out``: the directory, which must not exist; by default
    ``runs/<data>-<backbone>-<number>``.

    Raises: DataError, ConfigError, WeightsError, StorageError.
    """
    reporter = reporter or Silent()
    if out is not None:
        new_folder(out, RUNS_FOLDER, "")  # refused before the work, not after it
    asked = RunRequest(
        config, str(data), None if test_data is None else str(test_data), None if data_dir is None else str(data_dir)
    )
    data_at_hand = opened(asked)
    asked = replace(asked, config=in_effect(config, data_at_hand))
    # The name is ours before the work begins, and that it can be written is known then.
    with reserved(out, RUNS_FOLDER, f"{images_of(data_at_hand).name}-{asked.config.backbone}") as folder:
        if config.fine_tune is None:
            return _train(asked, data_at_hand, folder, reporter)
        RunRequest.of(config, data, test_data, data_dir).write(folder)
        try:
            return _train_resumably(asked, data_at_hand, folder, reporter)
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
    asked = RunRequest.read(folder)
    return _train_resumably(asked, opened(asked), folder, reporter or Silent())


def opened(asked: RunRequest) -> Data:
    """The data that a run was asked to train on, the test data joined to it.

    Raises: DataError, ConfigError.
    """
    how: dict[str, Any] = {"data_dir": asked.data_dir, "seed": asked.config.seed}
    data = open_data(asked.data, **how, **asked.config.layout)
    if asked.test_data is None:
        return data
    layout = asked.config.layout if Path(asked.test_data).is_dir() else {"group_by": asked.config.group_by}
    test = open_data(asked.test_data, **how, **layout, for_training=False)
    if isinstance(data, StoredImages) or isinstance(test, StoredImages):
        raise ConfigError("extracted features bring their own test split", received=f"--test {asked.test_data}")
    return joined(data, test)


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
    opened_data = opened(RunRequest(config, data, test_data, data_dir))
    in_effect(config, opened_data)
    # The photos that fine-tuning would train on, and no others.
    fitted = fit(replace(config, fine_tune=None, test_fraction=config.test_share), opened_data, reporter)
    found = found_from(starting_point(fitted, config.seed), config.fine_tune or FineTuneConfig(), reporter)
    return write_rate(found, new_folder(out, RUNS_FOLDER, f"{fitted.images.name}-{config.backbone}-rate"))


def _train_resumably(asked: RunRequest, data: Data, folder: Path, reporter: Reporter) -> Run:
    how = f"'tlkeras train --resume {folder}' goes on from there."
    with alone(folder):
        try:
            run = _train(asked, data, folder, reporter, how)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted; what was finished is kept", next_step=how) from None
        forget(folder)
    return run


def _train(asked: RunRequest, data: Data, folder: Path, reporter: Reporter, how_to_resume: str = "") -> Run:
    clock = Clock()
    config = asked.config
    for line in images_of(data).report():
        reporter.say(line)
    state_folder = None if config.fine_tune is None else unfinished(folder)
    fitted = fit(config, data, reporter, state_folder=state_folder, how_to_resume=how_to_resume)
    images, groups = fitted.images, fitted.audit.groups
    rows = np.flatnonzero(images.splits == "test")
    if fitted.head.crossing is not None:
        measurement = measure_out_of_fold(fitted.head, images, groups)
    else:
        measurement = measure_features(fitted.frozen, images, fitted.features, rows, groups)
    frozen = measurement
    if fitted.classifier is not fitted.frozen:
        verdicts = [fitted.verdicts[row] for row in rows]
        # Its graph is made here, so that later answers do without TensorFlow.
        measurement = measure_kept(
            fitted.classifier, images.subset(rows), verdicts, groups[rows], engine=config.engine, reporter=reporter
        )
        measurement = replace(measurement, rows=rows)
    clock.stop("all")
    run = Run(folder, fitted, measurement, clock.seconds["all"], frozen)
    _write(run, asked, data)
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
        groups=None
        if train.groups is None and test.groups is None
        else np.concatenate([np.full(len(one), "") if one.groups is None else one.groups for one in (train, test)]),
    )


def _write(run: Run, asked: RunRequest, data: Data) -> None:
    """The one writer of run directories."""
    fitted, measurement = run.fitted, run.measurement
    tuning = run.fine_tuning()
    kept = {} if tuning is None else {"fine_tuning": {"kept": tuning["kept"], "reason": tuning["reason"]}}
    extraction = fitted.features.extraction
    described = {
        "data": asked.data,
        "test_data": asked.test_data,
        "source": images_of(data).source,
        "class_names": list(fitted.images.class_names),
        "images": {name: int((fitted.images.splits == name).sum()) for name in SPLITS},
        "config": asked.config.to_json(),
        **kept,
        "features": {
            "computed": extraction.computed,
            "reused": extraction.reused,
            "engine": extraction.engine,
            "difference_from_keras": extraction.difference,
        },
        "head": fitted.head.description,
        "measured": measured_words(measurement.evaluation.images, measurement.evaluation.folds),
        "calibration": asdict(fitted.calibration),
        "seconds": {**fitted.seconds, "all": run.seconds},
        "environment": {"python": platform.python_version(), "platform": platform.platform(), **versions()},
    }
    temperature = fitted.classifier.config.temperature
    files = {
        "run.json": described,
        "audit.json": fitted.audit.to_json(),
        "metrics.json": {**measurement.evaluation.to_json(), **kept},
        CALIBRATION_FILE: measurement.answers.reliability(temperature),
        **({} if tuning is None else {"fine_tuning.json": tuning}),
    }
    tables = {
        # By its content, sha256, a photo is known again wherever it lies.
        "splits.csv": (("path", "label", "split", "sha256", "group"), _split_rows(fitted)),
        "predictions.csv": (_PREDICTION_COLUMNS, _prediction_rows(measurement)),
        ISSUES_FILE: (_ISSUE_COLUMNS, label_issue_rows(fitted, measurement, seed=asked.config.seed)),
    }
    with staged_folder(run.folder) as staged:
        fitted.classifier.save(staged / "classifier")
        for name, values in files.items():
            write_json(staged / name, {"format_version": FORMAT_VERSION, **values})
        for name, rows in tables.items():
            write_bytes(staged / name, csv_bytes(*rows))


def _split_rows(fitted: Fitted) -> Iterator[tuple[Any, ...]]:
    images = fitted.images
    groups = itertools.repeat("") if images.groups is None else images.groups
    rows = zip(images.paths, images.labels, images.splits, fitted.verdicts, strict=True)
    for (path, label, split, verdict), group in zip(rows, groups, strict=False):
        yield path, images.class_names[label], split, verdict.sha256, group


def _prediction_rows(measurement: Measurement) -> Iterator[tuple[Any, ...]]:
    images, answers = measurement.images, measurement.answers
    names = images.class_names
    for path, label, top, share, of_label in zip(
        images.paths, images.labels, answers.predicted, answers.probability, answers.of_label, strict=True
    ):
        yield path, names[label], names[top], f"{share:.6f}", f"{of_label:.6g}"
