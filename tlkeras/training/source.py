"""Where labelled images and their features come from: image files, or a finished folder of extracted features.

Either gives an audit, one way of leaving out copies, and features, so that whatever trains or measures asks here and
does not know the difference.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from tlkeras.backbones.frozen import Frozen, frozen
from tlkeras.backbones.weights import NONE
from tlkeras.data.audit import Audit, audit
from tlkeras.data.dataset import LabelledImages, check_classes
from tlkeras.data.duplicates import settle_copies
from tlkeras.data.open import open_dataset
from tlkeras.data.verdicts import Verdict
from tlkeras.errors import DataError, WeightsError
from tlkeras.features.shards import ShardSet, holds_features
from tlkeras.features.source import Ahead, Batches, Extraction, Features, FeatureSource, cut
from tlkeras.features.store import FeatureSpace
from tlkeras.progress import Reporter
from tlkeras.trained import TrainedClassifier
from tlkeras.training.config import TrainConfig

_COLUMNS = ("path", "label", "split", "status", "reason", "detail", "key", "format", "dhash", "width", "height")


@dataclass(frozen=True)
class StoredImages:
    """Labelled images of which the features are at hand, and the files perhaps not.

    verdicts: aligned with ``images``, of each one alone. rows: int64 ``[N]``, their rows in ``shards``.
    unlabelled: how many rows have no class and are left out.
    """

    shards: ShardSet
    images: LabelledImages
    verdicts: tuple[Verdict, ...]
    rows: np.ndarray
    unlabelled: int

    @property
    def space(self) -> FeatureSpace:
        """The recipe of the features."""
        return FeatureSpace(**self.shards.space)

    def subset(self, chosen: np.ndarray) -> StoredImages:
        """The images where a mask, bool ``[N]``, is true."""
        verdicts = tuple(verdict for verdict, kept in zip(self.verdicts, chosen, strict=True) if kept)
        return replace(self, images=self.images.subset(chosen), verdicts=verdicts, rows=self.rows[chosen])

    def audit(self) -> Audit:
        """The audit as over the files: copies are left out and grouped by the same rule."""
        verdicts = list(self.verdicts)
        # What says nothing of the picture (no hash in a shard of another maker) is compared by its bytes alone.
        plain = np.array([verdict.reason == "uniform" or not verdict.dhash for verdict in verdicts], bool)
        groups = settle_copies(verdicts, plain)
        return Audit(self.images, tuple(verdicts), groups)

    def features(self, kept: np.ndarray) -> Features:
        """The features of the images where a mask, bool ``[N]``, is true."""
        wanted = self.rows[kept]

        def read(rows: np.ndarray, most: int) -> Batches:
            rows = np.asarray(rows)[np.argsort(wanted[rows], kind="stable")]
            starts = np.cumsum([0, *(shard.rows for shard in self.shards.shards)])
            bounds = np.searchsorted(wanted[rows], starts)
            # A shard without a wanted row is not even read.
            for number in np.flatnonzero(np.diff(bounds)).tolist():
                vectors = self.shards.vectors(number)
                for part in cut(rows[bounds[number] : bounds[number + 1]], most):
                    yield part, vectors[wanted[part] - starts[number]]

        extraction = Extraction(0, len(wanted), (), None, None, 0.0)
        # Of the largest shard the file's pages and the vectors made of them.
        largest = max((shard.rows for shard in self.shards.shards), default=0)
        overhead = 2 * 4 * self.space.feature_size * largest
        return Features(len(wanted), self.space.feature_size, read, extraction, overhead)


Data = LabelledImages | StoredImages


def open_data(data: str, *, for_training: bool = True, group_by: str | None = None, **how: Any) -> Data:
    """Whatever names labelled images: see ``tlkeras.data.open``, or a folder that ``tlkeras extract`` wrote.

    Raises: DataError, ConfigError.
    """
    if holds_features(data):
        stored = open_stored(ShardSet(data), for_training=for_training)
        return replace(stored, images=stored.images.grouped_by(group_by))
    return open_dataset(data, for_training=for_training, group_by=group_by, **how)


def open_stored(shards: ShardSet, *, for_training: bool = True) -> StoredImages:
    """The labelled rows of a finished folder of features, rejected ones too; no vector is read.

    Raises: DataError when there are no classes, or a shard lacks what copies and splits are found by.
    """
    verdicts: list[Verdict] = []
    for number in range(len(shards.shards)):
        table = shards.table(number, _COLUMNS)
        for cells in zip(*(table[name] for name in _COLUMNS), strict=True):
            row: dict[str, Any] = dict(zip(_COLUMNS, cells, strict=True))
            # Words that come again and again are held once.
            row |= {name: sys.intern(row[name]) for name in ("label", "split", "status", "reason", "format")}
            verdicts.append(Verdict(sha256=row.pop("key"), **row))
    labelled = np.array([bool(verdict.label) for verdict in verdicts], bool)
    chosen = [verdict for verdict in verdicts if verdict.label]
    where = f"'{shards.folder}'"
    names = check_classes((verdict.label for verdict in chosen), where, 2 if for_training else 1)
    position = {name: label for label, name in enumerate(names)}
    images = LabelledImages(
        name=PurePosixPath(shards.folder.rstrip("/")).name,
        source=f"features in {where}",
        class_names=names,
        paths=tuple(verdict.path for verdict in chosen),
        labels=np.array([position[verdict.label] for verdict in chosen], np.int32),
        splits=np.array([verdict.split for verdict in chosen], "<U10"),
    )
    return StoredImages(shards, images, tuple(chosen), np.flatnonzero(labelled), int((~labelled).sum()))


def images_of(data: Data) -> LabelledImages:
    """The labelled images, before any is left out."""
    return data.images if isinstance(data, StoredImages) else data


def ahead_of(
    data: Data, source: Callable[[], FeatureSource], size_px: int, fit: str
) -> contextlib.AbstractContextManager[Ahead | None]:
    """The features of what an audit of ``data`` will decode, to be computed beside it; None where all are stored."""
    return contextlib.nullcontext() if isinstance(data, StoredImages) else Ahead(source, size_px, fit)


def audited(data: Data, reporter: Reporter, ahead: Ahead | None = None) -> Audit:
    """A verdict for every image: from its file, or from what extraction kept of it. ``ahead``: see ``ahead_of``."""
    if isinstance(data, StoredImages):
        if data.unlabelled:
            reporter.say(f"{data.unlabelled:,} images have no class and are left out")
        blind = sum(verdict.status != "rejected" and not verdict.dhash for verdict in data.verdicts)
        if blind:
            reporter.say(f"near copies of {blind:,} images cannot be told: their shards have no hash of the picture")
        return data.audit()
    with reporter.step("audit") as progress:
        return audit(data, hand_on=ahead.hand_on if ahead else None, progress=progress)


def features_of(
    data: Data, checked: Audit, source: FeatureSource, reporter: Reporter, ahead: Ahead | None = None
) -> Features:
    """Features of the images that an audit of ``data`` has kept, in their order: stored ones, or computed now.

    Raises: WeightsError when stored ones are not those of ``source``; DataError when a file has changed; StorageError.
    """
    if not isinstance(data, StoredImages):
        return source.of(checked.kept_verdicts, reporter, ahead)
    if source.spaces != (data.space,):
        differing = [name for name, value in vars(data.space).items() if value != getattr(source.spaces[0], name)]
        raise WeightsError(
            "the features were made by another network",
            received=f"'{data.shards.folder}' with another {', '.join(differing) or 'view of the images'}",
            next_step="Name the weights that made them, or give the photos.",
        )
    return data.features(checked.kept_mask)


def in_effect(config: TrainConfig, data: Data) -> TrainConfig:
    """The options with those in place that stored features bring with them."""
    if not isinstance(data, StoredImages):
        return config
    if config.fine_tune is not None:
        raise DataError(
            "fine-tuning needs the photos", received=f"features in '{data.shards.folder}'", next_step="Give the photos."
        )
    space = data.space
    return replace(
        config,
        backbone=space.backbone,
        size_px=space.size_px,
        fit=space.fit,
        mirror=False,
        precision=space.precision,
        engine="auto",
    )


def source_for(config: TrainConfig) -> FeatureSource:
    """The feature source of a recipe with its pretrained network, which is known by its hash from here on."""
    if config.weights == NONE:
        import keras

        keras.utils.set_random_seed(config.seed)  # random weights, where asked for, are a recipe too
    backbone = frozen(config.backbone, config.weights, config.side_px)
    return _source(backbone, config, config.precision, config.engine)


def source_of(classifier: TrainedClassifier, *, engine: str = "auto") -> FeatureSource:
    """The feature source that a classifier's own backbone gives: stored features of its training are found again."""
    return _source(classifier.backbone, classifier.config, "fp32", engine)


def _source(backbone: Frozen, config: Any, precision: str, engine: str) -> FeatureSource:
    space = FeatureSpace.of(backbone, fit=config.fit, precision=precision)
    return FeatureSource(backbone, space.views(config.views), engine=engine)


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
