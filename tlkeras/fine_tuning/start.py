"""What fine-tuning starts from, and what it is measured against: a classifier that keeps its eyes off validation.

The linear head of the frozen classifier is refitted on train and validation together once its strength is chosen, so
it cannot be asked about validation photos itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tlkeras.data.dataset import LabelledImages
from tlkeras.data.squares import squares
from tlkeras.data.verdicts import Verdict
from tlkeras.fine_tuning.augment import PRESETS, Batches, kept_side_px
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.state import WeightsChoice
from tlkeras.heads.folds import assign_folds, out_of_fold
from tlkeras.heads.linear import PathSolver, rotate, unit_rows
from tlkeras.heads.search import fit_linear
from tlkeras.heads.train import Head
from tlkeras.predictor import head_in_numpy
from tlkeras.progress import Reporter
from tlkeras.trained import ClassifierConfig

FOLDS = 5


@dataclass(frozen=True)
class Photos:
    """Photos with their labels (int ``[N]``), as the audit has kept them."""

    verdicts: tuple[Verdict, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """A hash of contents and labels, in order."""
        digest = hashlib.sha256(np.asarray(self.labels, np.int64).tobytes())
        for verdict in self.verdicts:
            digest.update(verdict.sha256.encode())
        return digest.hexdigest()

    def squares(self, side_px: int, fit: str, reporter: Reporter) -> np.ndarray:
        """The photos decoded: uint8 ``[N, side_px, side_px, 3]``; see ``tlkeras.data.squares``."""
        with reporter.step("decode") as progress:
            return squares(self.verdicts, side_px, fit, progress=progress)


@dataclass(frozen=True)
class Start:
    """Where fine-tuning begins.

    described, weights: the classifier and its network's weights in their order, the head fitted on ``train`` alone.
    refit_weights: the same with the frozen classifier's own head, which may have seen validation.
    strength: L2 strength of the frozen classifier's linear head; None where its head is another.
    frozen_logits: float32 ``[M, K]``, what the frozen classifier says of the M validation photos, not having seen them.
    seed: decides order and changes of photos.
    """

    described: ClassifierConfig
    weights: tuple[np.ndarray, ...]
    refit_weights: tuple[np.ndarray, ...]
    strength: float | None
    train: Photos
    validation: Photos
    frozen_logits: np.ndarray
    seed: int

    def settled(self, config: FineTuneConfig) -> FineTuneConfig:
        """The options with a batch no larger than the training set."""
        replicas = max(len(config.devices), 1)
        # Every device gets as much as the others.
        batch_size = max(min(config.batch_size, len(self.train)) // replicas, 1) * replicas
        return replace(config, batch_size=batch_size)

    def batches(self, config: FineTuneConfig, reporter: Reporter) -> Batches:
        """The training photos, decoded, as batches under settled options."""
        augmentation = PRESETS[config.augment]
        side = kept_side_px(self.described.size_px, augmentation)
        return Batches(
            self.train.squares(side, self.described.fit, reporter),
            self.train.labels,
            len(self.described.class_names),
            self.described.size_px,
            config.batch_size,
            augmentation,
            self.seed,
        )

    def together(self) -> Start:
        """The same with all photos in training and none in validation, from the head that was fitted on all."""
        both = (self.train, self.validation)
        return replace(
            self,
            weights=self.refit_weights,
            train=Photos(
                tuple(verdict for photos in both for verdict in photos.verdicts),
                np.concatenate([photos.labels for photos in both]),
            ),
            validation=Photos((), self.validation.labels[:0]),
            frozen_logits=self.frozen_logits[:0],
        )

    def fingerprint(self, config: FineTuneConfig, pick: WeightsChoice | None = None) -> str:
        """A hash of all that a state belongs to: photos, labels, splits, network, settled options and pick."""
        options: list[Any] = [asdict(config), self.described.backbone_sha256, self.described.class_names, self.seed]
        options.append(None if pick is None else asdict(pick))
        photos = f"{self.train.fingerprint()} {self.validation.fingerprint()}"
        return hashlib.sha256(f"{photos} {json.dumps(options)}".encode()).hexdigest()


def starting_weights(head: Head, images: LabelledImages, features: np.ndarray) -> tuple[np.ndarray, ...]:
    """The weights of the head to start from: of the same kind and strength, fitted on the training photos alone.

    ``features``: float32 ``[N, D]``, aligned with ``images``. An MLP was never fitted on validation, and is itself it.
    """
    if not _refitted(head):
        return head.weights
    train = np.flatnonzero(images.splits == "train")
    rows, classes = unit_rows(features[train]), len(images.class_names)
    return fit_linear(rows, images.labels[train], classes, head.description["strength"]).arrays


def logits_on_validation(
    head: Head, images: LabelledImages, groups: np.ndarray, features: np.ndarray, *, seed: int, refitted: bool
) -> np.ndarray:
    """Logits float32 ``[M, K]`` that the frozen classifier would give validation photos had it not seen them.

    ``refitted=False``: from a head that was fitted on training photos alone. That is fair where either classifier is
    refitted on all photos once the better one is known.
    ``refitted=True``: for each fifth of validation a head is fitted on train and the other four fifths. So the frozen
    classifier is measured with almost all of the photos that it is really fitted on, while a fine-tuned network that
    goes into service as it is was measured after training photos alone: each as it would be used. ``groups`` int
    ``[N]``: copies, which share a fold.
    """
    chosen = np.flatnonzero(images.splits == "validation")
    if not refitted or not _refitted(head):
        return head_in_numpy(head.config, starting_weights(head, images, features))(features[chosen])
    train = np.flatnonzero(images.splits == "train")
    rows = np.concatenate([train, chosen])
    rotated = rotate(unit_rows(features[rows]))
    folds = np.full(len(rows), -1)
    folds[len(train) :] = assign_folds(np.zeros(len(chosen), np.int64), seed, folds=FOLDS, groups=groups[chosen])

    def answer(kept: np.ndarray, out: np.ndarray) -> np.ndarray:
        solver = PathSolver(rotated.rows[kept], images.labels[rows[kept]], len(images.class_names), rotated.spread)
        return solver.solve(head.description["strength"]).logits(rotated.rows[out])

    return out_of_fold(folds, len(images.class_names), answer)[len(train) :]


def _refitted(head: Head) -> bool:
    return bool(head.description["kind"] == "linear")
