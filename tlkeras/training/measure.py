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
from tlkeras.evaluation.metrics import Answers, Evaluation, evaluate_answers
from tlkeras.features.source import Features
from tlkeras.progress import Reporter, Silent
from tlkeras.storage import sha256_of
from tlkeras.trained import TrainedClassifier
from tlkeras.training.head import rows_a_batch
from tlkeras.training.source import Data, StoredImages, audited, features_of, images_of, source_of, with_class_names

_NAMED = 5


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
            next_step="Give others, or measure on them with --include-seen.",
        )
    return left, seen


@dataclass(frozen=True)
class Measurement:
    """An evaluation, and what it was computed from; ``answers`` is aligned with ``images``.

    probabilities: gives them again, batch by batch: places int64 ``[n]`` in ``images``, and float32 ``[n, K]``.
    """

    evaluation: Evaluation
    images: LabelledImages
    answers: Answers
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
    classifier: TrainedClassifier, images: LabelledImages, features: Features, rows: np.ndarray | None = None
) -> Measurement:
    """Measure on features that are at hand; labels index the classifier's classes.

    ``rows``: int64 ``[N]``, which of the features those of ``images`` are; all by default. No more than a batch's
    probabilities are in memory.

    Raises: DataError when there is no image.
    """
    rows = np.arange(len(images)) if rows is None else rows
    if not len(rows):
        raise DataError("an evaluation needs at least one image", received="none")
    place = np.zeros(features.count, np.int64)
    place[rows] = np.arange(len(rows))

    predictor = classifier.predictor()

    def probabilities() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part, vectors in features.batches(rows, rows_a_batch(len(classifier.class_names))):
            yield place[part], predictor.of_features(vectors)

    at: list[np.ndarray] = []
    parts: list[Answers] = []
    for places, found in probabilities():
        at.append(places)
        parts.append(Answers.of(found, images.labels[places], classifier.config.temperature))
    answers = Answers.joined(parts).in_order(np.concatenate(at))
    evaluation = evaluate_answers(answers, classifier.class_names, paths=images.paths)
    return Measurement(evaluation, images, answers, probabilities)


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
    checked = audited(data, reporter)
    reporter.say(checked.summary())
    split_of = [(trained_on or {}).get(verdict.sha256, "") for verdict in checked.kept_verdicts]
    _, seen = without_seen(checked.kept, split_of, known=trained_on is not None, include_seen=include_seen)
    measured = checked
    if seen.left_out:
        mask = checked.kept_mask.copy()
        mask[mask] = [not split for split in split_of]
        data, measured = data.subset(mask), checked.subset(mask)
    features = features_of(data, measured, source_of(classifier, engine=engine), reporter)
    found = measure_features(classifier, measured.kept, features)
    return replace(found, audit=checked, features=features, seen=seen)


def measure_kept(
    classifier: TrainedClassifier,
    images: LabelledImages,
    verdicts: Sequence[Verdict],
    *,
    engine: str = "auto",
    reporter: Reporter | None = None,
) -> Measurement:
    """Measure on images that an audit has kept, whose ``verdicts`` are aligned with them."""
    features = source_of(classifier, engine=engine).of(verdicts, reporter or Silent())
    return replace(measure_features(classifier, images, features), features=features)
