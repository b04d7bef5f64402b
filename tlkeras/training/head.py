"""Training the head that was asked for on features: in memory where they fit, else in batches.

Where features take more than ``memory_gb`` the strength of a linear head is chosen on a sample that fits, as in memory,
and the head is fitted over all rows batch by batch (``tlkeras.heads.streaming``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tlkeras.data.dataset import LabelledImages
from tlkeras.data.duplicates import first_seen
from tlkeras.errors import ConfigError
from tlkeras.features.source import BATCH_ROWS, Batches, Features
from tlkeras.heads.config import HeadConfig
from tlkeras.heads.folds import VALIDATION_IMAGES
from tlkeras.heads.linear import NOT_CONVERGED, LinearHead, unit_rows
from tlkeras.heads.search import search_linear
from tlkeras.heads.streaming import memory_bytes, search_streaming
from tlkeras.heads.train import Head, train_head
from tlkeras.progress import Reporter
from tlkeras.training.config import TrainConfig

# What an image takes at most while its label, verdict and copies are looked at, measured on 100,000 rows of a folder of
# features; half of it is held while the head is trained.
BYTES_AN_IMAGE = 1550
# The search holds its features so often (as they are, of unit length, rotated, and in folds), and so many logits of
# each image: those at every strength, and what a solver works on. Measured by tests/training/test_head.py.
_COPIES, _COPIES_IN_FOLDS, _LOGITS = 7, 10, 28
# Numbers in a batch of logits: 32 MB while it is worked on.
_BATCH_LOGITS = 1_000_000


def fit_head(
    config: TrainConfig,
    images: LabelledImages,
    groups: np.ndarray,
    features: Features,
    reporter: Reporter,
    *,
    crossed_by: Sequence[str] | None = None,
) -> Head:
    """Train the head of ``config`` on the train and validation rows of features that are aligned with ``images``.

    ``crossed_by``: there is no test, and every image is judged by a head that had not seen it, in folds that are dealt
    in the order of these keys, one for each image: neither the order of files nor where they lie matters.

    Raises: ConfigError when that takes more memory than ``config.memory_gb``.
    """
    train, validation = (np.flatnonzero(images.splits == name) for name in ("train", "validation"))
    class_count, count = len(images.class_names), len(train) + len(validation)
    budget = _budget(config, len(images))
    needed = bytes_in_memory(count, features.size, class_count, folds=len(validation) < VALIDATION_IMAGES)
    if needed > budget and crossed_by is None:
        if config.head.kind != "linear" or config.fine_tune is not None:
            what = f"a head of kind {config.head.kind}" if config.fine_tune is None else "fine-tuning"
            least = math.ceil((needed + BYTES_AN_IMAGE * len(images)) / 1e8) / 10
            raise ConfigError(
                f"{what} holds the features of {count:,} images in memory",
                received=f"--memory-gb {config.memory_gb:g}",
                next_step=f"Give --memory-gb {least:g}, or train a linear head without --fine-tune.",
            )
        if config.balance == "classes":
            raise ConfigError(
                "classes are balanced in memory",
                received=f"{count:,} images, --memory-gb {config.memory_gb:g}",
                next_step="Give more memory, or leave --balance out.",
            )
        return _InBatches(config, images, train, validation, groups, features, budget).fitted(reporter)
    if crossed_by is not None:
        train, validation = np.argsort(crossed_by, kind="stable"), validation[:0]
    head = train_head(
        config.head,
        (features.matrix[train], images.labels[train]),
        (features.matrix[validation], images.labels[validation]),
        class_count,
        seed=config.seed,
        groups=first_seen(groups[np.concatenate([train, validation])]),
        crossed=crossed_by is not None,
        balance="none" if config.fine_tune else config.balance,
        reporter=reporter,
    )
    if crossed_by is None or head.held_out_rows is None:
        return head
    return replace(head, held_out_rows=train[head.held_out_rows])


def can_cross(config: TrainConfig, images: int, features: int, classes: int) -> bool:
    """Whether every image can be judged by a head that had not seen it: features must be in memory for that.

    Read in batches, a head takes tens of passes over the files, and one for each fold would take as many times five;
    with so many images a part that is held out measures well enough.
    """
    return bytes_in_memory(images, features, classes, folds=True) <= _budget(config, images)


def _budget(config: TrainConfig, images: int) -> float:
    """Bytes for the features and all that is made of them."""
    return config.memory_gb * 1e9 - BYTES_AN_IMAGE * images


def bytes_in_memory(count: int, features: int, classes: int, *, folds: bool) -> int:
    """What the search of a linear head on so many images holds at most, its features included."""
    copies = _COPIES_IN_FOLDS if folds else _COPIES
    return 4 * count * (copies * features + _LOGITS * classes) + 256 * features * classes


def rows_a_batch(classes: int) -> int:
    """How many images are worked on together, so that their logits stay small."""
    return int(np.clip(_BATCH_LOGITS // classes, 64, BATCH_ROWS))


class _InBatches:
    """A linear head that is fitted on features in batches. ``budget``: bytes for all that it holds."""

    def __init__(
        self,
        config: TrainConfig,
        images: LabelledImages,
        train: np.ndarray,
        validation: np.ndarray,
        groups: np.ndarray,
        features: Features,
        budget: float,
    ) -> None:
        self.config, self.labels, self.class_count = config, images.labels, len(images.class_names)
        self.train, self.validation, self.groups = train, validation, groups
        self.features, self.budget = features, budget
        self.random = np.random.default_rng(config.seed)

    def rows(self, *chosen: np.ndarray) -> Callable[[], Batches]:
        """Features of unit length float32 ``[n, D]`` and labels int64 ``[n]`` of images, each time anew."""
        rows = np.sort(np.concatenate(chosen))
        most = rows_a_batch(self.class_count)
        return lambda: (
            (unit_rows(vectors), self.labels[part].astype(np.int64))
            for part, vectors in self.features.batches(rows, most)
        )

    def fitted(self, reporter: Reporter) -> Head:
        """The head.

        Raises: ConfigError when even that takes more than the budget.
        """
        size, classes = self.features.size, self.class_count
        batch = rows_a_batch(classes) * (32 * classes + 12 * size)
        needed = memory_bytes(size, classes) + batch + self.features.overhead
        sample_bytes = self.budget - bytes_in_memory(0, size, classes, folds=True)
        affordable = int(sample_bytes / (bytes_in_memory(1, size, classes, folds=True) - 256 * size * classes))
        if needed > self.budget or affordable < 2 * classes:
            least = max(needed, bytes_in_memory(2 * classes, size, classes, folds=True))
            least += int(self.config.memory_gb * 1e9 - self.budget)
            raise ConfigError(
                f"a head of {size:,} features and {classes:,} classes for {len(self.labels):,} images takes "
                f"{least / 1e9:.2g} GB",
                received=f"--memory-gb {self.config.memory_gb:g}",
            )
        sample = self._sample(affordable)
        X = np.empty((len(sample), size), np.float32)
        for rows, vectors in self.features.batches(sample):
            X[np.searchsorted(sample, rows)] = unit_rows(vectors)
        # Folds of the sample only: validation must not have been seen when it says when to stop.
        found = search_linear(
            X, self.labels[sample], None, None, classes, seed=self.config.seed, groups=self.groups[sample]
        )
        del X
        reporter.say(
            f"     head  {len(self.train) + len(self.validation):,} images do not fit in {self.config.memory_gb:g} GB: "
            f"C = {found.strength:.1e} chosen on {len(sample):,}, now in batches ({needed / 1e6:,.0f} MB)"
        )
        with reporter.step("head", "passes") as progress:
            streamed = search_streaming(
                self.rows(self.train),
                self.rows(self.validation),
                self.rows(self.train, self.validation),
                classes,
                strength=found.strength,
                start=found.head,
                progress=progress,
            )
        if not streamed.converged:
            reporter.say(NOT_CONVERGED)
        described = {
            "kind": "linear",
            "strength": streamed.strength,
            "strength_of_sample": found.strength,
            "curve": streamed.curve,
            "passes": streamed.passes,
            "converged": streamed.converged,
            "left_nats": streamed.left_nats,
            "streamed": True,
            "sample": len(sample),
            "memory_bytes": needed,
        }
        unseen = streamed.held_out_head
        return Head(streamed.head.arrays, HeadConfig(), described, *self._held_out(unseen), unseen=unseen)

    def _held_out(self, head: LinearHead) -> tuple[np.ndarray, np.ndarray]:
        """Logits and labels of validation images, of as many as the temperature's fit has memory for."""
        most = max(1, int(self.budget / (40 * self.class_count)))
        rows = self.validation
        if len(rows) > most:
            rows = self.random.choice(rows, most, replace=False)
        parts = [(head.logits(features), labels) for features, labels in self.rows(rows)()]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _sample(self, count: int) -> np.ndarray:
        """About ``count`` training images, as evenly over the classes as there are images."""
        each = max(2, count // self.class_count)
        labels = self.labels[self.train]
        order = self.random.permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        # The place of each image within its class.
        ranks = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
        return np.sort(self.train[order[ranks < each]])
