"""What a run directory says: the plain files that ``tlkeras train`` leaves, read and checked, nothing computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tlkeras.errors import ClassifierError, FormatError
from tlkeras.evaluation.calibration import reliability_record
from tlkeras.evaluation.metrics import Evaluation
from tlkeras.storage import read_csv, read_json
from tlkeras.trained import CONFIG_FILE, find

CALIBRATION_FILE = "calibration.json"
ISSUES_FILE = "label_issues.csv"
# Written by fine-tuning: its learning curves.
FINE_TUNING_FILE = "fine_tuning.json"
# One photo that is wrong makes a recall of nothing; from so many on it says something.
_ENOUGH = 5


@dataclass(frozen=True)
class Prediction:
    """The answer to one test image: its path, the two class names, and the probability (0..1) of the predicted one."""

    path: str
    label: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.label == self.predicted


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label is in doubt: its class, the class suggested instead, and both probabilities (0..1)."""

    path: str
    label: str
    split: str
    suggested: str
    label_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class RunFacts:
    """A run as its files tell it; what is not there is empty or None.

    folder: as the user named it. classifier: ``classifier.json``. run: ``run.json``. metrics: ``metrics.json``, as
    ``Evaluation.to_json`` makes it. audit: ``audit.json``. calibration: ``calibration.json``. fine_tuning:
    ``fine_tuning.json``. images: (path, class name, split) of every used image.
    measured_on: in words, what the metrics were measured on.
    """

    folder: Path
    classifier: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] | None = None
    audit: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    fine_tuning: dict[str, Any] | None = None
    images: tuple[tuple[str, str, str], ...] = ()
    predictions: tuple[Prediction, ...] = ()
    issues: tuple[LabelIssue, ...] = ()
    measured_on: str = "held-out photos"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of probabilities."""
        return tuple(self.classifier["class_names"])

    @property
    def fine_tuned(self) -> bool:
        """Whether the network was trained on and kept."""
        return bool(self.fine_tuning) and (self.fine_tuning or {}).get("kept") != "frozen"

    @property
    def weakest(self) -> dict[str, Any]:
        """The row of ``metrics["per_class"]`` with the lowest recall, among classes with enough photos to tell."""
        rows = [row for row in (self.metrics or {})["per_class"] if row["recall"] is not None]
        enough = [row for row in rows if row["images"] >= _ENOUGH] or rows
        return dict(min(enough, key=lambda row: (row["recall"], row["class"])))

    @property
    def data_name(self) -> str:
        """A short name of the training data, ``""`` when it is not known."""
        text = str(self.run.get("data", "")).rstrip("/\\")
        return Path(text).stem if Path(text).suffix.lower() in (".csv", ".tsv", ".txt") else Path(text).name

    def measured(
        self, evaluation: Evaluation, paths: Sequence[str], labels: Any, probabilities: Any, name: str
    ) -> RunFacts:
        """The same run, measured on other data: labels int ``[N]``, probabilities float ``[N, K]``."""
        names = self.class_names
        best = probabilities.argmax(axis=1)
        predictions = tuple(
            Prediction(path, names[label], names[top], float(row[top]))
            for path, label, top, row in zip(paths, labels, best, probabilities, strict=True)
        )
        return replace(
            self,
            metrics=evaluation.to_json(),
            predictions=predictions,
            calibration=reliability_record(probabilities, labels, float(self.classifier["temperature"])),
            measured_on=f"photos of {name}",
        )


def read_run(folder: str | Path) -> RunFacts:
    """Read a run directory, or what there is to say of a saved classifier.

    Raises: ClassifierError when it is neither, or one of its files cannot be read.
    """
    folder = Path(folder)
    classifier = find(folder)
    # The classifier folder of a run is taken for the run.
    inside = classifier.name == "classifier" and (classifier.parent / "run.json").exists()
    home = classifier.parent if inside else folder
    described = _json(classifier / CONFIG_FILE)
    try:
        return RunFacts(
            folder=home,
            classifier={**(described or {}), "class_names": [str(name) for name in (described or {})["class_names"]]},
            run=_json(home / "run.json") or {},
            metrics=_json(home / "metrics.json"),
            audit=_json(home / "audit.json"),
            calibration=_json(home / CALIBRATION_FILE),
            fine_tuning=_json(home / FINE_TUNING_FILE),
            images=tuple((row["path"], row["label"], row["split"]) for row in _rows(home / "splits.csv")),
            predictions=tuple(
                Prediction(row["path"], row["label"], row["predicted"], float(row["probability"]))
                for row in _rows(home / "predictions.csv")
            ),
            issues=tuple(
                LabelIssue(
                    row["path"],
                    row["label"],
                    row["split"],
                    row["suggested"],
                    float(row["label_probability"]),
                    float(row["suggested_probability"]),
                )
                for row in _rows(home / ISSUES_FILE)
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClassifierError(f"'{home}' has a file that lacks a field ({error})", next_step="Train again.") from None


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return read_json(path)
    except (OSError, FormatError) as error:
        raise ClassifierError(f"'{path}' cannot be read ({error})", next_step="Train again.") from None


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        return read_csv(path)
    except (OSError, FormatError) as error:
        raise ClassifierError(f"'{path}' cannot be read ({error})", next_step="Train again.") from None
