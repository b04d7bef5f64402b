"""Which images judge heads that had not seen them: one set that is held out, or all images in turn, in folds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# From this many validation images on, one split is steady enough to choose by.
VALIDATION_IMAGES = 1000
FOLDS = 5
# Of few images, or few of a class, more folds leave a head nearly all of them.
_FEW, _FEW_OF_A_CLASS, _MORE_FOLDS = 500, 20, 10
# Where both are few, and the smallest class has fewer than so many, folds are dealt anew to even out their luck.
_VERY_FEW_OF_A_CLASS, _REPEATS = 10, 3


def held_out_folds(labels: np.ndarray, train_count: int, seed: int, *, groups: np.ndarray | None = None) -> np.ndarray:
    """Which images of train and validation, in this order, judge heads, int64 [N]: a fold each, or -1 for never.

    Validation alone where it is large enough, else everything in the folds of ``assign_folds``.
    """
    if len(labels) - train_count >= VALIDATION_IMAGES:
        return np.where(np.arange(len(labels)) < train_count, -1, 0)
    return assign_folds(labels, seed, groups=groups)


def crossing_folds(labels: np.ndarray, seed: int, *, groups: np.ndarray | None = None) -> list[np.ndarray]:
    """Folds int64 [N] as ``assign_folds`` deals them: five, or ten where images are few; see ``_FEW``."""
    units = np.arange(len(labels)) if groups is None else groups
    of_class = np.array([len(np.unique(units[labels == label])) for label in np.unique(labels)])
    smallest, few = of_class[of_class > 1].min(initial=_FEW), len(labels) < _FEW
    folds = _MORE_FOLDS if few or smallest < _FEW_OF_A_CLASS else FOLDS
    repeats = _REPEATS if few and smallest < _VERY_FEW_OF_A_CLASS else 1
    return [assign_folds(labels, seed + 7919 * again, folds=folds, groups=groups) for again in range(repeats)]


def assign_folds(labels: np.ndarray, seed: int, *, folds: int = FOLDS, groups: np.ndarray | None = None) -> np.ndarray:
    """A fold number per image, int64 [N]: 0..folds-1, or -1 for images that are never held out.

    Each class is dealt out evenly, whole groups at a time, beginning where the class before it stopped, so folds are
    of nearly equal size. A class with a single image (or group) always trains: held out, it would be a class that
    the fold has never seen.
    """
    rng = np.random.default_rng(seed)
    _, units = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    # A group is dealt with the class of its first image.
    _, first = np.unique(units, return_index=True)
    unit_labels = labels[first]
    unit_folds = np.full(len(first), -1, np.int64)
    following = 0
    for label in np.unique(unit_labels):
        members = rng.permutation(np.flatnonzero(unit_labels == label))
        if len(members) > 1:
            unit_folds[members] = (following + np.arange(len(members))) % folds
            following += len(members)
    # With few images some folds stay empty; number the others from 0.
    used = np.unique(unit_folds[unit_folds >= 0])
    dealt = unit_folds >= 0
    unit_folds[dealt] = np.searchsorted(used, unit_folds[dealt])
    return np.asarray(unit_folds[units])


def out_of_fold(
    folds: np.ndarray, class_count: int, answer: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Logits float32 [N, K] of every image by a head that was not fitted on its fold; zeros for those of fold -1.

    ``folds`` int [N]. ``answer``: gives the logits of the images at the second indices by a head fitted on those at the
    first ones.
    """
    made = np.zeros((len(folds), class_count), np.float32)
    for fold in range(int(folds.max(initial=-1)) + 1):
        out = np.flatnonzero(folds == fold)
        made[out] = answer(np.flatnonzero(folds != fold), out)
    return made
