"""Measuring a classifier on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tlkeras.data.audit import Audit
from tlkeras.data.dataset import LabelledImages, found_json, plural, printable
from tlkeras.data.verdicts import Verdict
from tlkeras.errors import DataError
from tlkeras.evaluation.label_errors import label_doubts
from tlkeras.evaluation.metrics import Answers, Evaluation, evaluate_answers
from tlkeras.features.source import Features
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.logits import fit_temperature, softmax
from tlkeras.heads.search import search_linear
from tlkeras.heads.train import Head
from tlkeras.progress import Reporter, Silent
from tlkeras.storage import sha256_of
from tlkeras.trained import TrainedClassifier
from tlkeras.training.fit import Fitted
from tlkeras.training.head import rows_a_batch
from tlkeras.training.source import (
    Data,
    StoredImages,
    ahead_of,
    audited,
    features_of,
    images_of,
    source_of,
    with_class_names,
)

_NAMED = 5
# Of out-of-fold heads where the run's own head has no L2 strength; what photos usually want.
_STRENGTH = 0.1
# Places int64 [n] among the images that are measured, their probabilities [n, K], and the temperature these have.
_Part = tuple[np.ndarray, np.ndarray, float]


@dataclass(frozen=True)
class Seen:
    """Images that the classifier was trained on: their paths by split, and whether they were left out.

    known: whether it can be told at all; runs before 0.2 without an audit and bare classifiers do not say.
    """

    known: bool
    paths: dict[str, tuple[str, ...]]
    left_out: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        named = {split: [printable(path) for path in paths] for split, paths in self.paths.items()}
        return {"known": self.known, "images": sum(map(len, named.values())), "left_out": self.left_out, **named}

    def report(self) -> list[str]:
        """A line on what was seen, or none."""
        if not self.known:
            return ["warning: it is not known which photos this classifier was trained on; of those it knows too much"]
        paths = [printable(path) for of_split in self.paths.values() for path in of_split]
        if not paths:
            return []
        shares = " and ".join(f"{len(of)} for {split}" for split, of in self.paths.items() if of)
        named = ", ".join(f"'{path}'" for path in paths[:_NAMED]) + (" …" if len(paths) > _NAMED else "")
        done = "left out; --include-seen measures on them too" if self.left_out else "measured on all the same"
        return [f"warning: {plural(len(paths), 'image')} took part in training ({shares}), {done}: {named}"]


def unseen(
    images: LabelledImages, trained_on: Mapping[str, str] | None, *, include_seen: bool = False
) -> tuple[LabelledImages, Seen]:
    """Files without those that were trained on, by the SHA-256 of their content; those of the test where there is one.

    ``trained_on``, ``include_seen``: see ``measure``.

    Raises: DataError when none is left.
    """
    if (images.splits == "test").any():
        images = images.in_split("test")
    split_of = [(trained_on or {}).get(_content(path), "") for path in images.paths] if trained_on else []
    return without_seen(images, split_of or [""] * len(images), known=trained_on is not None, include_seen=include_seen)


def _content(path: str) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""  # whoever opens it next says what is wrong with it


def without_seen(
    images: LabelledImages, split_of: Sequence[str], *, known: bool, include_seen: bool
) -> tuple[LabelledImages, Seen]:
    """Images without those that have a split in ``split_of``, and what is to be said of these.

    Raises: DataError when none is left.
    """
    paths = {
        name: tuple(path for path, split in zip(images.paths, split_of, strict=True) if split == name)
        for name in ("train", "validation")
    }
    seen = Seen(known, paths, left_out=any(paths.values()) and not include_seen)
    if not seen.left_out:
        return images, seen
    left = images.subset(np.array([not split for split in split_of], bool))
    if not len(left):
        raise DataError(
            "all of these images took part in training",
            received=plural(len(images), "image"),
            next_step="Give others, or --include-seen; the run's metrics.json has what heads without them said.",
        )
    return left, seen


@dataclass(frozen=True)
class Measurement:
    """An evaluation, and what it was computed from; ``answers`` is aligned with ``images``.

    probabilities: gives them again, batch by batch: places int64 ``[n]`` in ``images``, and float32 ``[n, K]``.
    rows: int64 ``[N]``, which of the images that were given those of ``images`` are.
    """

    evaluation: Evaluation
    images: LabelledImages
    answers: Answers
    rows: np.ndarray
    probabilities: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
    audit: Audit | None = None
    features: Features | None = None
    seen: Seen | None = None

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras evaluate --json`` prints."""
        found: dict[str, Any] = {
            **self.evaluation.to_json(),
            "seen": None if self.seen is None else self.seen.to_json(),
        }
        if self.audit is not None:
            rejected = [verdict for verdict in self.audit.verdicts if verdict.status == "rejected"]
            found["skipped"] = [{"path": printable(verdict.path), "reason": verdict.reason} for verdict in rejected]
            found |= found_json(len(self.audit.verdicts), self.audit.dataset.left_out)
        return found


def measure_features(
    classifier: TrainedClassifier,
    images: LabelledImages,
    features: Features,
    rows: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Measurement:
    """Measure on features that are at hand; labels index the classifier's classes.

    ``rows``: int64 ``[M]``, which of the images and features are measured on; all by default. ``groups``: int
    ``[N]``, see ``evaluate_answers``. No more than a batch's probabilities are in memory.

    Raises: DataError when there is no image.
    """
    rows = np.arange(len(images)) if rows is None else rows
    place = np.zeros(features.count, np.int64)
    place[rows] = np.arange(len(rows))
    predictor, temperature = classifier.predictor(), classifier.config.temperature

    def parts() -> Iterator[_Part]:
        for part, vectors in features.batches(rows, rows_a_batch(len(classifier.class_names))):
            yield place[part], predictor.of_features(vectors), temperature

    return _measured(images, rows, parts, groups)


def measure_out_of_fold(head: Head, images: LabelledImages, groups: np.ndarray) -> Measurement:
    """Measure on the images that ``head`` was trained on, each by a head that had not seen it nor its group.

    ``images``: those of train and validation, as it was trained on them; ``groups``: int64 ``[N]``.

    Raises: DataError where no image could be held out, as with one of each class.
    """
    crossing, rows = head.crossing, head.held_out_rows
    assert crossing is not None
    assert rows is not None

    def parts() -> Iterator[_Part]:
        for fold, temperature in enumerate(crossing.temperatures.tolist()):
            places = np.flatnonzero(crossing.folds == fold)
            yield places, softmax(head.held_out_logits[places], temperature), temperature

    return _measured(images, rows, parts, groups, folds=len(crossing.temperatures), instability=crossing.instability)


def _measured(
    images: LabelledImages,
    rows: np.ndarray,
    parts: Callable[[], Iterator[_Part]],
    groups: np.ndarray | None,
    **crossed: Any,
) -> Measurement:
    """The one way of measuring: the answers come in parts, each from a head that judges it; a hold-out has one head."""
    if not len(rows):
        raise DataError("an evaluation needs at least one image", received="none")
    images = images.subset(rows)
    at: list[np.ndarray] = []
    found: list[Answers] = []
    for places, probabilities, temperature in parts():
        at.append(places)
        found.append(Answers.of(probabilities, images.labels[places], temperature))
    answers = Answers.joined(found).in_order(np.concatenate(at))
    groups = None if groups is None else groups[rows]
    evaluation = evaluate_answers(answers, images.class_names, paths=images.paths, groups=groups, **crossed)
    return Measurement(evaluation, images, answers, rows, lambda: (part[:2] for part in parts()))


def measure(
    classifier: TrainedClassifier,
    data: Data,
    *,
    trained_on: Mapping[str, str] | None = None,
    include_seen: bool = False,
    engine: str = "auto",
    reporter: Reporter | None = None,
) -> Measurement:
    """Measure on a data set: on its test split where it has one, else on all of it.

    ``trained_on``: the split by SHA-256 of the content of what the classifier was trained on
    (``tlkeras.run_facts.trained_on``); such images are left out unless ``include_seen``.

    Raises: DataError when it has a class that the classifier does not know, or no image is left; WeightsError for
    features of another network.
    """
    reporter = reporter or Silent()
    images = with_class_names(images_of(data), classifier.class_names)
    data = replace(data, images=images) if isinstance(data, StoredImages) else images
    test = images.splits == "test"
    if test.any():
        data = data.subset(test)
        reporter.say(f"'{images.name}' has a test split: measuring on its {len(images_of(data)):,} images")
    source = source_of(classifier, engine=engine)
    with ahead_of(data, lambda: source, classifier.config.size_px, classifier.config.fit) as ahead:
        checked = audited(data, reporter, ahead)
        reporter.say(checked.summary())
        split_of = [(trained_on or {}).get(verdict.sha256, "") for verdict in checked.kept_verdicts]
        _, seen = without_seen(checked.kept, split_of, known=trained_on is not None, include_seen=include_seen)
        measured = checked
        if seen.left_out:
            mask = checked.kept_mask.copy()
            mask[mask] = [not split for split in split_of]
            data, measured = data.subset(mask), checked.subset(mask)
        features = features_of(data, measured, source, reporter, ahead)
    found = measure_features(classifier, measured.kept, features, groups=measured.groups)
    return replace(found, audit=checked, features=features, seen=seen)


def measure_kept(
    classifier: TrainedClassifier,
    images: LabelledImages,
    verdicts: Sequence[Verdict],
    groups: np.ndarray,
    *,
    engine: str = "auto",
    reporter: Reporter | None = None,
) -> Measurement:
    """Measure on images that an audit has kept, whose ``verdicts`` and ``groups`` are aligned with them."""
    features = source_of(classifier, engine=engine).of(verdicts, reporter or Silent())
    return replace(measure_features(classifier, images, features, groups=groups), features=features)


def label_issue_rows(fitted: Fitted, measurement: Measurement, *, seed: int) -> Iterator[tuple[Any, ...]]:
    """A row for each image whose label is in doubt, the most doubtful first.

    Every image is judged by a model that was not trained on it: those that were measured as they were measured, those
    of train and validation beside a test by linear heads in folds. Where features are read in batches there are no
    folds, and those of train are not judged.
    """
    images, names = fitted.images, fitted.images.class_names
    out_of_fold = _out_of_fold(fitted, seed)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for rows, probabilities in out_of_fold():
            yield rows, probabilities, images.labels[rows]
        for places, probabilities in measurement.probabilities():
            rows = measurement.rows[places]
            yield rows, probabilities, images.labels[rows]

    for doubt in label_doubts(batches):
        shares = f"{doubt.label_probability:.6f}", f"{doubt.suggested_probability:.6f}"
        where = images.paths[doubt.index], names[doubt.label], images.splits[doubt.index]
        yield *where, names[doubt.suggested], *shares


def _out_of_fold(fitted: Fitted, seed: int) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Indices int64 ``[n]`` of train and validation, and probabilities ``[n, K]`` by heads not trained on them."""
    images, head, features = fitted.images, fitted.head, fitted.features
    if head.crossing is not None:
        return lambda: iter(())
    if (unseen := head.unseen) is not None:
        validation = np.flatnonzero(images.splits == "validation")
        temperature = fitted.frozen.config.temperature
        most = rows_a_batch(len(images.class_names))
        return lambda: (
            (rows, softmax(unseen.logits(unit_rows(vectors)), temperature))
            for rows, vectors in features.batches(validation, most)
        )
    pooled = np.concatenate([np.flatnonzero(images.splits == name) for name in ("train", "validation")])
    # Where the strength was chosen in folds, nearly all images have such logits already.
    if head.held_out_rows is not None and 2 * len(head.held_out_rows) > len(pooled):
        rows, logits = pooled[head.held_out_rows], head.held_out_logits
    else:
        result = search_linear(
            unit_rows(features.matrix[pooled]),
            images.labels[pooled],
            None,
            None,
            len(images.class_names),
            seed=seed,
            groups=fitted.audit.groups[pooled],
            strengths=(head.description.get("strength", _STRENGTH),),
        )
        rows, logits = pooled[result.held_out_indices], result.held_out_logits
    probabilities = softmax(logits, fit_temperature(logits, images.labels[rows]))
    return lambda: iter([(rows, probabilities)])
