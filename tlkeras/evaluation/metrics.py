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

    Recall, with its 95 % interval, is None without images, precision None when the class was never predicted, F1 None
    when both are absent.
    """

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None
    recall_interval: tuple[float, float] | None = None


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

    ``accuracy_interval`` and ``macro_f1_interval`` hold 95 % bounds. ``mean_per_class_accuracy`` is the mean recall,
    ``macro_f1`` the mean F1 over classes that occur. ``folds``: in how many parts the images were judged, each by a
    head that was fitted on the others; 1 where one classifier judged all.
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
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    folds: int = 1

    def to_json(self) -> dict[str, object]:
        """A dict of plain values without NaN, ready for ``json.dumps(..., allow_nan=False)``."""
        plain = asdict(self)
        plain["accuracy_interval"] = list(self.accuracy_interval)
        plain["macro_f1_interval"] = list(self.macro_f1_interval)
        plain["class_names"] = list(self.class_names)
        plain["confusion"] = [list(row) for row in self.confusion]
        plain["per_class"] = [{"class": figures.pop("name"), **figures} for figures in map(asdict, self.per_class)]
        for figures in plain["per_class"]:
            if figures["recall_interval"] is not None:
                figures["recall_interval"] = list(figures["recall_interval"])
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
    groups: np.ndarray | None = None,
    folds: int = 1,
    instability: float = 0.0,
) -> Evaluation:
    """The same from ``Answers``, for which no table of probabilities need be in memory.

    ``groups`` int [N]: images that belong together (copies, a patient's), which say less than as many single ones.
    ``folds``, ``instability``: who judged, see ``Evaluation`` and ``tlkeras.heads.search.Crossing``. Both widen the
    intervals.

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
    worth = _worth(answers.right, groups, instability)
    per_class = _per_class(confusion, names, worth)
    f1 = np.array([c.f1 for c in per_class if c.images and c.f1 is not None])
    return Evaluation(
        images=count,
        accuracy=float(answers.right.mean()),
        accuracy_interval=_wilson(float(answers.right.mean()), worth * count),
        mean_per_class_accuracy=float(np.mean([c.recall for c in per_class if c.recall is not None])),
        top5_accuracy=float(answers.first_five.mean()) if classes > 5 else None,
        log_loss=float(-np.log(np.maximum(answers.of_label, np.finfo(np.float64).eps)).mean()),
        ece=reliability_of(answers.probability, answers.right, bins).error,
        class_names=names,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        per_class=per_class,
        mistakes=_mistakes(answers, names, paths),
        macro_f1=float(f1.mean()),
        macro_f1_interval=_macro_f1_interval(answers, classes, groups, float(f1.mean()), instability),
        folds=folds,
    )


def accuracy_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval, within 0..1, of a share of ``right`` out of ``count`` ≥ 1 images: Wilson's (1927)."""
    return _wilson(right / count, count)


def _wilson(share: float, count: float) -> tuple[float, float]:
    extra = _Z**2 / count
    middle = share + extra / 2
    half = math.sqrt(extra * (share * (1 - share) + extra / 4))
    low, high = (middle - half) / (1 + extra), (middle + half) / (1 + extra)
    return low if share > 0 else 0.0, high if share < 1 else 1.0


def _worth(right: np.ndarray, groups: np.ndarray | None, instability: float) -> float:
    """What share, up to 1, of as many independent images these are worth for an interval.

    Images of a group are right or wrong together: the variance of their share is that of groups drawn as wholes
    (what a bootstrap of groups tends to), over that of single images (Kish's design effect, 1965). Heads that were
    fitted on each other's images err together (Bengio and Grandvalet 2004): as two images enter each other's heads
    alike, what hangs on the choice of images counts twice. ``benchmarks/crossing.py`` draws data sets and counts how
    often the interval holds what is true.
    """
    units = np.arange(len(right)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(units)
    share, effect = right.mean(), 1.0
    if len(sizes) < len(right):
        # Where all are right or all wrong nothing tells: then a group is worth one image.
        effect = len(right) / len(sizes)
        if 0 < share < 1 and len(sizes) > 1:
            sums = np.bincount(units, right - share)
            effect = float(sums @ sums) * len(sizes) / (len(sizes) - 1) / (len(right) * share * (1 - share))
    return float(1.0 / (max(effect, 1.0) * (1.0 + instability)))


def _macro_f1_interval(
    answers: Answers, classes: int, groups: np.ndarray | None, middle: float, instability: float
) -> tuple[float, float]:
    """Percentile bootstrap over whole groups, as much wider as ``_worth`` tells for heads that err together."""
    units = np.arange(len(answers)) if groups is None else np.unique(groups, return_inverse=True)[1]
    count, rng, drawn = int(units.max()) + 1, np.random.default_rng(0), []
    hit = answers.labels[answers.right]
    for _ in range(_RESAMPLES // 4):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)[units]
        images = np.bincount(answers.labels, weights, classes)
        both = images + np.bincount(answers.predicted, weights, classes)
        f1 = 2 * np.bincount(hit, weights[answers.right], classes) / np.maximum(both, 1)
        drawn.append(f1[images > 0].mean())
    wider = np.sqrt(1.0 + instability)
    low, high = (middle + wider * (bound - middle) for bound in np.quantile(drawn, [0.025, 0.975]))
    return max(0.0, float(low)), min(1.0, float(high))


def paired_interval(
    one: np.ndarray, other: np.ndarray, *, groups: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean of ``one`` less that of ``other``, bool or float [N] each, on the same photos.

    Percentile bootstrap over photos, or over whole ``groups`` [N] of them.
    """
    gains = one.astype(np.float64) - other
    if not gains.any():
        return 0.0, 0.0
    if groups is None:
        sums, sizes = gains, np.ones(len(gains))
    else:
        _, units = np.unique(groups, return_inverse=True)
        sums, sizes = np.bincount(units, gains), np.bincount(units).astype(np.float64)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(sums), len(sums))
        drawn.append(sums[rows].sum() / sizes[rows].sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def measured_words(images: int, folds: int) -> str:
    """What an accuracy of a run was measured on, as a sentence."""
    if folds > 1:
        return f"each of the {images:,} photos was judged by a head that had not seen it"
    return f"{images:,} photos were held out and judged by the classifier"


def percent(share: float | None, digits: int = 1) -> str:
    """A share 0..1 as people read it, ``–`` when there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _per_class(confusion: np.ndarray, names: tuple[str, ...], worth: float) -> tuple[ClassFigures, ...]:
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
                recall_interval=_wilson(hits / images, worth * images) if images else None,
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
