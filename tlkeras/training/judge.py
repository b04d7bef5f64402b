"""Measuring a classifier on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tlkeras.data.audit import Audit, audit
from tlkeras.data.dataset import LabelledImages
from tlkeras.data.verdicts import Verdict
from tlkeras.errors import DataError
from tlkeras.evaluation.metrics import Evaluation, evaluate_probabilities
from tlkeras.features.source import Features, FeatureSource
from tlkeras.features.store import FeatureSpace
from tlkeras.heads.config import head_logits
from tlkeras.progress import Reporter, Silent
from tlkeras.trained import TrainedClassifier


@dataclass(frozen=True)
class Judgement:
    """An evaluation, and what it was computed from; ``probabilities`` float32 ``[N, K]`` is aligned with ``images``."""

    evaluation: Evaluation
    images: LabelledImages
    probabilities: np.ndarray
    audit: Audit | None
    features: Features | None


def judge_features(classifier: TrainedClassifier, images: LabelledImages, features: np.ndarray) -> Judgement:
    """Measure on features float32 ``[N, D]`` that are at hand; labels index the classifier's classes."""
    probabilities = classifier.probabilities(head_logits(classifier.head, features))
    evaluation = evaluate_probabilities(probabilities, images.labels, classifier.class_names, paths=images.paths)
    return Judgement(evaluation, images, probabilities, None, None)


def judge(
    classifier: TrainedClassifier, dataset: LabelledImages, *, engine: str = "auto", reporter: Reporter | None = None
) -> Judgement:
    """Measure on a data set: on its test split where it has one, else on all of it.

    Raises: DataError when it has a class that the classifier does not know, or no image is left.
    """
    reporter = reporter or Silent()
    images = with_class_names(dataset, classifier.class_names)
    if (images.splits == "test").any():
        images = images.in_split("test")
        reporter.say(f"'{dataset.name}' has a test split: measuring on its {len(images):,} images")
    with reporter.step("audit") as progress:
        checked = audit(images, progress=progress)
    reporter.say(checked.summary())
    judgement = judge_kept(classifier, checked.kept, checked.kept_verdicts, engine=engine, reporter=reporter)
    return replace(judgement, audit=checked)


def judge_kept(
    classifier: TrainedClassifier,
    images: LabelledImages,
    verdicts: Sequence[Verdict],
    *,
    engine: str = "auto",
    reporter: Reporter | None = None,
) -> Judgement:
    """Measure on images that an audit has kept, whose ``verdicts`` are aligned with them."""
    features = source_of(classifier, engine=engine).of(verdicts, reporter or Silent())
    return replace(judge_features(classifier, images, features.matrix), features=features)


def source_of(classifier: TrainedClassifier, *, engine: str = "auto") -> FeatureSource:
    """The feature source that a classifier's own backbone gives: stored features of its training are found again."""
    config = classifier.config
    backbone = classifier.network.get_layer("backbone")
    spaces = [
        FeatureSpace(
            backbone=config.backbone,
            weights_sha256=config.backbone_sha256,
            size_px=config.size_px,
            fit=config.fit,
            feature_size=int(backbone.output_shape[-1]),
            view=view,
        )
        for view in config.views
    ]
    return FeatureSource(lambda: backbone, spaces, engine=engine)


def with_class_names(dataset: LabelledImages, class_names: Sequence[str]) -> LabelledImages:
    """The same images with labels that index ``class_names``; classes are matched by name.

    Raises: DataError for a class that is not among them.
    """
    unknown = sorted(set(dataset.class_names) - set(class_names))
    if unknown:
        raise DataError(
            "every class of the data must be one of the classifier's",
            received=", ".join(f"'{name}'" for name in unknown[:5]),
            next_step=f"It knows {', '.join(list(class_names)[:12])}{' …' if len(class_names) > 12 else ''}.",
        )
    position = np.array([list(class_names).index(name) for name in dataset.class_names], np.int32)
    return replace(dataset, class_names=tuple(class_names), labels=position[dataset.labels])
