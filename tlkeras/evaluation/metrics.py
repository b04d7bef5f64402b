"""One evaluation of predicted probabilities against labels, with intervals, per-class figures and mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from tlkeras.errors import DataError
from tlkeras.evaluation.calibration import reliability_of, reliability_record
from tlkeras.heads.logits import check_scores, ranked, softmax

_MISTAKES = 20
_RESAMPLES = 2000
_Z = 1.959963984540054  # the normal distribution's quantile at 0.975


@dataclass(frozen=True)
class Answers:
    """What a classifier said of N labelled images, in six numbers an image: all that is measured follows from them.

    labels, predicted: int64 ``[N]``. probability, uncalibrated: float64 ``[N]``, 0..1, of the predicted class, with the
    temperature and without it. of_label: float64 ``[N]``, the probability of the true class. first_five: bool ``[N]``,
    whether that is among the five most probable.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    uncalibrated: np.ndarray
    of_label: np.ndarray
    first_five: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> np.ndarray:
        """Whether the predicted class is the true one, bool ``[N]``."""
        return np.asarray(self.predicted == self.labels)

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> Answers:
        """Of probabilities float ``[N, K]``, which were ``softmax(logits / temperature)``, and labels int ``[N]``.

        Raises: DataError for shapes that do not fit each other, values that are not probabilities.
        """
        wide, labels = check_scores(probabilities, labels, "probabilities")
        if len(wide) and (wide.min() < 0 or np.abs(wide.sum(axis=1) - 1).max() > 1e-3):
            raise DataError(
                "probabilities must be at least 0 and sum to 1 in every row",
                received=f"a smallest value of {wide.min():.3g} and sums in "
                f"{wide.sum(axis=1).min():.4g}..{wide.sum(axis=1).max():.4g}",
                next_step="Apply softmax to logits first",
            )
        of_label = wide[np.arange(len(labels)), labels]
        first_five = (ranked(wide, 5) == labels[:, None]).any(axis=1)
        top = wide.max(axis=1)
        uncalibrated = top
        if temperature != 1.0:
            uncalibrated = softmax(temperature * np.log(np.maximum(wide, np.finfo(np.float64).tiny))).max(axis=1)
        return cls(labels, wide.argmax(axis=1), top, np.asarray(uncalibrated, np.float64), of_label, first_five)

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """The answers of several batches as one."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def in_order(self, rows: np.ndarray) -> Answers:
        """The same in another order, where answer ``i`` is of image ``rows[i]``: now of image ``i``."""
        order = np.argsort(rows, kind="stable")
        return type(self)(*(getattr(self, field.name)[order] for field in fields(self)))

    def reliability(self, temperature: float) -> dict[str, object]:
        """Confidence against accuracy before and after the temperature, as plain values for a file."""
        return reliability_record(self.uncalibrated, self.probability, self.right, temperature)


@dataclass(frozen=True)
class ClassFigures:
    """One class: its images in the test set, precision, recall and F1 in 0..1.

    Recall is None without images, precision None when the class was never predicted, F1 None when both are absent.
    """

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction: ``path`` (None when unknown), the two class names and the probability, 0..1, given."""

    index: int
    path: str | None
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of one test set; shares are in 0..1, the log loss is in nats.

    ``accuracy_interval`` holds 95 % bounds. ``mean_per_class_accuracy`` is the mean recall over classes that occur.
    ``top5_accuracy`` is None up to five classes. ``ece`` is the expected calibration error. ``confusion``, K × K,
    counts images, rows are true classes. ``mistakes`` are the most confident first.
    """

    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    mean_per_class_accuracy: float
    top5_accuracy: float | None
    log_loss: float
    ece: float
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    per_class: tuple[ClassFigures, ...]
    mistakes: tuple[Mistake, ...]

    def to_json(self) -> dict[str, object]:
        """A dict of plain values without NaN, ready for ``json.dumps(..., allow_nan=False)``."""
        plain = asdict(self)
        plain["accuracy_interval"] = list(self.accuracy_interval)
        plain["class_names"] = list(self.class_names)
        plain["confusion"] = [list(row) for row in self.confusion]
        plain["per_class"] = [{"class": figures.pop("name"), **figures} for figures in map(asdict, self.per_class)]
        plain["mistakes"] = [asdict(mistake) for mistake in self.mistakes]
        return plain


def evaluate_probabilities(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    paths: Sequence[str | Path] | None = None,
    bins: int = 15,
) -> Evaluation:
    """Measure probabilities float [N, K] against labels int [N].

    ``paths`` [N] name the images in ``mistakes``; ``bins`` are those of the calibration error.

    Raises:
        DataError: no images, shapes that do not fit each other, values that are not probabilities.
        ConfigError: fewer than one bin.
    """
    wide = np.asarray(probabilities)
    if wide.ndim == 2 and len(class_names) != wide.shape[1]:
        raise DataError(f"{wide.shape[1]} columns of probabilities need as many class names", received=len(class_names))
    return evaluate_answers(Answers.of(probabilities, labels), class_names, paths=paths, bins=bins)


def evaluate_answers(
    answers: Answers,
    class_names: Sequence[str],
    *,
    paths: Sequence[str | Path] | None = None,
    bins: int = 15,
) -> Evaluation:
    """The same from ``Answers``, for which no table of probabilities need be in memory.

    Raises: as ``evaluate_probabilities``.
    """
    count, classes = len(answers), len(class_names)
    if count == 0:
        raise DataError("an evaluation needs at least one image", received="none")
    if paths is not None and len(paths) != count:
        raise DataError(f"{count} images need as many paths", received=len(paths))
    names = tuple(map(str, class_names))
    confusion = np.bincount(answers.labels * classes + answers.predicted, minlength=classes**2)
    confusion = confusion.reshape(classes, classes)
    per_class = _per_class(confusion, names)
    right = int(answers.right.sum())
    return Evaluation(
        images=count,
        accuracy=float(answers.right.mean()),
        accuracy_interval=accuracy_interval(right, count),
        mean_per_class_accuracy=float(np.mean([c.recall for c in per_class if c.recall is not None])),
        top5_accuracy=float(answers.first_five.mean()) if classes > 5 else None,
        log_loss=float(-np.log(np.maximum(answers.of_label, np.finfo(np.float64).eps)).mean()),
        ece=reliability_of(answers.probability, answers.right, bins).error,
        class_names=names,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        per_class=per_class,
        mistakes=_mistakes(answers, names, paths),
    )


def accuracy_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval, within 0..1, of a share of ``right`` out of ``count`` ≥ 1 images: Wilson's (1927)."""
    share, extra = right / count, _Z**2 / count
    middle = share + extra / 2
    half = math.sqrt(extra * (share * (1 - share) + extra / 4))
    low, high = (middle - half) / (1 + extra), (middle + half) / (1 + extra)
    return low if right else 0.0, high if right < count else 1.0


def paired_interval(one: np.ndarray, other: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """95 % interval, in -1..1, of the accuracy of ``one`` less that of ``other``, both bool [N] on the same photos.

    Percentile bootstrap over photos. Only photos on which exactly one is right count, so a resample is two binomial
    numbers.
    """
    count = len(one)
    gains, losses = int((one & ~other).sum()), int((other & ~one).sum())
    if not gains + losses:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, [gains / count, losses / count, 1 - (gains + losses) / count], size=_RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / count, [0.025, 0.975])
    return float(low), float(high)


def percent(share: float | None, digits: int = 1) -> str:
    """A share 0..1 as people read it, ``–`` when there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _per_class(confusion: np.ndarray, names: tuple[str, ...]) -> tuple[ClassFigures, ...]:
    figures = []
    for index, name in enumerate(names):
        hits = int(confusion[index, index])
        images, predictions = int(confusion[index].sum()), int(confusion[:, index].sum())
        figures.append(
            ClassFigures(
                name=name,
                images=images,
                precision=hits / predictions if predictions else None,
                recall=hits / images if images else None,
                f1=2 * hits / (images + predictions) if images + predictions else None,
            )
        )
    return tuple(figures)


def _mistakes(answers: Answers, names: tuple[str, ...], paths: Sequence[str | Path] | None) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(~answers.right)
    order = wrong[np.argsort(-answers.probability[wrong], kind="stable")][:_MISTAKES]
    return tuple(
        Mistake(
            index=int(i),
            path=None if paths is None else str(paths[i]),
            label=names[answers.labels[i]],
            predicted=names[answers.predicted[i]],
            probability=float(answers.probability[i]),
        )
        for i in order
    )
