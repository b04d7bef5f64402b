"""What fine-tuning starts from and is measured against: heads on frozen features that keep their eyes off validation.

The linear head of the frozen classifier is refitted on train and validation together once its strength is chosen, so
it cannot be asked about validation photos itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.data.dataset import LabelledImages
from tlkeras.heads.config import head_logits, linear_model
from tlkeras.heads.linear import PathSolver, rotate, unit_rows
from tlkeras.heads.search import assign_folds, out_of_fold
from tlkeras.heads.train import Head

FOLDS = 5


def starting_head(head: Head, images: LabelledImages, features: np.ndarray) -> Any:
    """The Keras head to start from: of the same kind and strength, fitted on the training photos alone.

    ``features``: float32 ``[N, D]``, aligned with ``images``. An MLP was never fitted on validation, and is itself it.
    """
    if not _refitted(head):
        return head.model
    train = np.flatnonzero(images.splits == "train")
    rotated = rotate(unit_rows(features[train]))
    solver = PathSolver(rotated.rows, images.labels[train], len(images.class_names), rotated.spread)
    solver.solve(head.description["strength"])
    return linear_model(rotated.head(solver.coefficients, solver.intercepts))


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
        return head_logits(starting_head(head, images, features), features[chosen])
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
