"""What a run directory says: the plain files that ``tlkeras train`` leaves, read and checked, nothing computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tlkeras.data.dataset import printable
from tlkeras.errors import ClassifierError, FormatError, TlkerasError
from tlkeras.evaluation.metrics import Answers, Evaluation
from tlkeras.json_csv import read_csv, read_json
from tlkeras.trained import CONFIG_FILE, find

# Of the JSON files of a run directory; files without one are of version 1, too.
FORMAT_VERSION = 1
CALIBRATION_FILE = "calibration.json"
ISSUES_FILE = "label_issues.csv"
# Written by fine-tuning: its learning curves.
FINE_TUNING_FILE = "fine_tuning.json"
# What metrics were measured on, where folds judged all photos.
CROSSED = "photos, each judged by a head that had not seen it"
# One photo that is wrong makes a recall of nothing; from so many on it says something.
_ENOUGH = 5


@dataclass(frozen=True)
class Prediction:
    """The answer to one test image: its path, the two class names, and the probability (0..1) of the predicted one.

    label_probability: of the true one; None in runs that did not keep it.
    """

    path: str
    label: str
    predicted: str
    probability: float
    label_probability: float | None = None

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
    ``fine_tuning.json``. images: (path, class name, split) of every used image. contents, groups: by path, the SHA-256
    of its content and its given group, as far as there are any.
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
    contents: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
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

    @property
    def data_folders(self) -> list[Path]:
        """The folders that the data was named by, or that its list lies in, as far as they are on this disk."""
        named = [Path(str(self.run[key])) for key in ("data", "test_data") if self.run.get(key)]
        return [path if path.is_dir() else path.parent for path in named if path.exists()]

    def measured(self, evaluation: Evaluation, answers: Answers, paths: Sequence[str], name: str) -> RunFacts:
        """The same run, measured on other data, called ``name``; ``answers`` is aligned with ``paths``."""
        names = self.class_names
        predictions = tuple(
            Prediction(path, names[label], names[top], float(share))
            for path, label, top, share in zip(
                paths, answers.labels, answers.predicted, answers.probability, strict=True
            )
        )
        return replace(
            self,
            metrics=evaluation.to_json(),
            predictions=predictions,
            calibration=answers.reliability(float(self.classifier["temperature"])),
            measured_on=f"photos of {name}",
        )


@contextlib.contextmanager
def as_written(folder: Path) -> Iterator[None]:
    """Within, what the files of a run lack or hold otherwise than tlkeras writes it is one line.

    A run may come from a stranger. Its files have too many fields that depend on each other for a schema to hold them.

    Raises: ClassifierError.
    """
    try:
        yield
    except TlkerasError:
        raise
    # Whatever a value of the wrong kind runs into: Python's exceptions of all kinds, a template's of its own.
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ClassifierError(
            f"'{folder}' has files that hold something else than tlkeras writes ({words})", next_step="Train again."
        ) from error


def read_run(folder: str | Path) -> RunFacts:
    """Read a run directory, or what there is to say of a saved classifier.

    Raises: ClassifierError when it is neither, or one of its files cannot be read.
    """
    home, classifier = _home(folder)
    described = _json(classifier / CONFIG_FILE)
    run = _json(home / "run.json") or {}
    if isinstance(run.get("seconds"), float):
        run["seconds"] = {"all": run["seconds"]}  # as 0.1 wrote it of runs on stored features
    metrics = _json(home / "metrics.json")
    with as_written(home):
        rows = _split_rows(home)
        crossed = (metrics or {}).get("folds", 1) > 1
        return RunFacts(
            folder=home,
            classifier={**(described or {}), "class_names": [str(name) for name in (described or {})["class_names"]]},
            run=run,
            metrics=metrics,
            audit=_json(home / "audit.json"),
            measured_on=CROSSED if crossed else RunFacts.measured_on,
            calibration=_json(home / CALIBRATION_FILE),
            fine_tuning=_json(home / FINE_TUNING_FILE),
            images=tuple((row["path"], row["label"], row["split"]) for row in rows),
            contents={row["path"]: row["sha256"] for row in rows if row["sha256"]},
            groups={row["path"]: row["group"] for row in rows if row.get("group")},
            predictions=tuple(
                Prediction(
                    row["path"],
                    row["label"],
                    row["predicted"],
                    float(row["probability"]),
                    float(row["label_probability"]) if "label_probability" in row else None,
                )
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


def trained_on(folder: str | Path) -> dict[str, str] | None:
    """What the classifier of a run was trained on: ``train`` or ``validation`` by SHA-256 of a photo's content.

    Of runs without that column the audit tells. None for a bare classifier, and where neither is there.

    Raises: ClassifierError when it is neither a run nor a classifier, or a file cannot be read.
    """
    home, _ = _home(folder)
    with as_written(home):
        rows = _split_rows(home)
        known = {row["sha256"]: row["split"] for row in rows if row["sha256"]}
    return {content: split for content, split in known.items() if split in ("train", "validation")} or None


def _split_rows(home: Path) -> list[dict[str, str]]:
    """The rows of ``splits.csv``; of runs without the content of photos the audit tells it."""
    rows = _rows(home / "splits.csv")
    if rows and "sha256" not in rows[0]:
        audit = _json(home / "audit.json") or {}
        content = {image["path"]: image["sha256"] for image in audit.get("images", [])}
        rows = [{**row, "sha256": content.get(printable(row["path"]), "")} for row in rows]
    return rows


def _home(folder: str | Path) -> tuple[Path, Path]:
    """The run directory, or the folder itself where there is none, and the folder of the classifier."""
    folder = Path(folder)
    classifier = find(folder)
    # The classifier folder of a run is taken for the run.
    inside = classifier.name == "classifier" and (classifier.parent / "run.json").exists()
    return (classifier.parent if inside else folder), classifier


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        value: dict[str, Any] = read_json(path)
    except OSError as error:
        raise ClassifierError(
            f"'{path}' cannot be read ({error.strerror})", next_step="Check its permissions."
        ) from None
    except FormatError as error:
        raise ClassifierError(f"'{path}' cannot be read ({error})", next_step="Train again.") from None
    if path.name != CONFIG_FILE and value.get("format_version", 1) != FORMAT_VERSION:
        raise ClassifierError(f"'{path}' was written by a later version", next_step="Update tlkeras.")
    return value


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        return read_csv(path)
    except (OSError, FormatError) as error:
        raise ClassifierError(f"'{path}' cannot be read ({error})", next_step="Train again.") from None
