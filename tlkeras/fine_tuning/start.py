"""What fine-tuning starts from: a classifier that has not seen validation, and the photos of both sides."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tlkeras.data.squares import squares
from tlkeras.data.verdicts import Verdict
from tlkeras.fine_tuning.augment import PRESETS, preset
from tlkeras.fine_tuning.batches import Batches, kept_side_px
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.pick import Pick
from tlkeras.progress import Reporter
from tlkeras.trained import ClassifierConfig


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
        """The options with a batch no larger than the training set, and the augmentation that its size speaks for."""
        replicas = max(len(config.devices), 1)
        # Every device gets as much as the others.
        batch_size = max(min(config.batch_size, len(self.train)) // replicas, 1) * replicas
        return replace(config, batch_size=batch_size, augment=preset(config.augment, len(self.train)))

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

    def fingerprint(self, config: FineTuneConfig, pick: Pick | None = None) -> str:
        """A hash of all that a state belongs to: photos, labels, splits, network, settled options and pick."""
        options: list[Any] = [asdict(config), self.described.backbone_sha256, self.described.class_names, self.seed]
        options.append(None if pick is None else pick.to_json())
        photos = f"{self.train.fingerprint()} {self.validation.fingerprint()}"
        return hashlib.sha256(f"{photos} {json.dumps(options)}".encode()).hexdigest()
