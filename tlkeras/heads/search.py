"""Linear heads along a path of L2 strengths; choose one on held-out images, then refit on all of them.

Enough validation images: fit on train, choose on validation. Otherwise train and validation are pooled and
cross-validated in stratified, seeded folds. Either way the held-out logits at the chosen strength come back: the
temperature is fitted on them later.

The criterion is the held-out log loss. On six splits each of pets, flowers, steel and cats-vs-dogs features the heads
that it chose were on average as accurate as those with the highest held-out accuracy (94.1 and 94.0 %, within the
noise of the splits; a little better on flowers, a little worse on pets) and had the lower test log loss. Held-out
accuracy jumps by whole images and is often equal for many strengths.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.linear import (
    STRENGTHS,
    LinearHead,
    PathSolver,
    RotatedFeatures,
    check_training_rows,
    rotate,
    unit_rows,
)
from tlkeras.heads.logits import log_loss_and_accuracy

# From this many validation images on, one split is steady enough to choose by.
VALIDATION_IMAGES = 1000
FOLDS = 5
# Strengths in a row without a better log loss after which the rest of the path is left out.
_PATIENCE = 2
# Good enough to rank strengths; the final fit is exact.
_SEARCH_TOLERANCE_NATS = 3e-6
_QUERIES_AT_ONCE = 1024


@dataclass(frozen=True)
class HeadResult:
    """The chosen head and how it was chosen.

    ``curve`` has a row per strength tried: ``strength`` (C), ``log_loss`` (nats) and ``accuracy`` (0..1) on held-out
    images. ``held_out_logits`` float32 [M, K],
    ``held_out_labels`` int [M] and ``held_out_indices`` int [M] are these images at the chosen strength; the indices
    count through train, then validation. ``converged``: whether the head is the optimum for its strength.
    """

    head: LinearHead
    strength: float
    curve: list[dict[str, float]]
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    held_out_indices: np.ndarray
    converged: bool
    seconds: float


def check_strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    """The strengths as floats, strong (small C) to weak.

    Raises:
        ConfigError: none given, or one that is not positive and finite.
    """
    ordered = tuple(sorted(float(strength) for strength in strengths))
    if not ordered or not np.isfinite(ordered).all() or ordered[0] <= 0:
        raise ConfigError("L2 strengths C must be positive finite numbers", received=list(strengths))
    return ordered


def fit_linear(features: np.ndarray, labels: np.ndarray, class_count: int, strength: float) -> LinearHead:
    """A linear head for features float [N, D] with labels int [N], of the L2 strength C.

    Raises:
        DataError: features and labels that do not fit each other or are not finite.
        ConfigError: fewer than two classes.
    """
    features, labels = check_training_rows(features, labels, class_count)
    rotated = rotate(features)
    solver = PathSolver(rotated.rows, labels, class_count, rotated.spread).solve(strength)
    return rotated.head(solver.coefficients, solver.intercepts)


def search_linear(
    train_X: np.ndarray,
    train_y: np.ndarray,
    val_X: np.ndarray | None,
    val_y: np.ndarray | None,
    class_count: int,
    seed: int,
    groups: np.ndarray | None = None,
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> HeadResult:
    """Search the L2 path and refit the best strength on train and validation together.

    Features are float [N, D], labels int [N]; validation may be None or empty. ``groups`` int [train + validation]
    numbers images that belong together (duplicates) and therefore share a fold. Standardisation uses all features
    given here, held-out ones too, but never their labels.

    Raises:
        DataError: features, labels or groups that do not fit each other.
        ConfigError: fewer than two classes, or strengths that are not positive.
    """
    began = time.perf_counter()
    ordered = check_strengths(strengths)
    features, labels = check_training_rows(train_X, train_y, class_count)
    train_count = len(labels)
    if val_X is not None and val_y is not None and len(val_y):
        more, more_labels = check_training_rows(val_X, val_y, class_count)
        if more.shape[1] != features.shape[1]:
            raise DataError(
                "train and validation need the same number of features",
                received=f"{features.shape[1]} and {more.shape[1]}",
            )
        features, labels = np.concatenate([features, more]), np.concatenate([labels, more_labels])
    if groups is not None and np.shape(groups) != labels.shape:
        raise DataError(
            "groups must have one number per image of train and validation",
            received=f"shape {np.shape(groups)} for {len(labels)} images",
        )
    folds = held_out_folds(labels, train_count, seed, groups=groups)
    rotated = rotate(features)
    held_out = np.flatnonzero(folds >= 0)
    if len(held_out):
        curve, logits = _search(rotated, labels, folds, class_count, ordered)
        # The first of equals is the strongest regularisation.
        best = int(np.argmin([row["log_loss"] for row in curve]))
        chosen = logits[best][held_out]
    else:
        # One image (or group) per class: nothing can be held out, so the middle of the path it is.
        curve, best, chosen = [], len(ordered) // 2, np.zeros((0, class_count), np.float32)
    final = PathSolver(rotated.rows, labels, class_count, rotated.spread).solve(ordered[best])
    return HeadResult(
        head=rotated.head(final.coefficients, final.intercepts),
        strength=ordered[best],
        curve=curve,
        held_out_logits=chosen,
        held_out_labels=labels[held_out],
        held_out_indices=held_out,
        converged=final.converged,
        seconds=time.perf_counter() - began,
    )


def held_out_folds(labels: np.ndarray, train_count: int, seed: int, *, groups: np.ndarray | None = None) -> np.ndarray:
    """Which images of train and validation, in this order, judge heads, int64 [N]: a fold each, or -1 for never.

    Validation alone where it is large enough, else everything in the folds of ``assign_folds``.
    """
    if len(labels) - train_count >= VALIDATION_IMAGES:
        return np.where(np.arange(len(labels)) < train_count, -1, 0)
    return assign_folds(labels, seed, groups=groups)


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


def _search(
    rotated: RotatedFeatures, labels: np.ndarray, folds: np.ndarray, class_count: int, strengths: Sequence[float]
) -> tuple[list[dict[str, float]], list[np.ndarray]]:
    """The curve over held-out images and, per strength, their logits [N, K] (rows of other images are zero)."""
    solvers: dict[int, PathSolver] = {}

    def answer(kept: np.ndarray, out: np.ndarray, strength: float) -> np.ndarray:
        fold = int(folds[out[0]])
        if fold not in solvers:
            solvers[fold] = PathSolver(rotated.rows[kept], labels[kept], class_count, rotated.spread)
        solver = solvers[fold].solve(strength, tolerance_nats=_SEARCH_TOLERANCE_NATS)
        return solver.logits(rotated.rows[out])

    held_out = np.flatnonzero(folds >= 0)
    curve: list[dict[str, float]] = []
    path: list[np.ndarray] = []
    for strength in strengths:
        logits = out_of_fold(folds, class_count, partial(answer, strength=strength))
        path.append(logits)
        curve.append({"strength": strength, **log_loss_and_accuracy(logits[held_out], labels[held_out])})
        if len(curve) - 1 - int(np.argmin([row["log_loss"] for row in curve])) >= _PATIENCE:
            break
    return curve, path


def nearest(
    queries: np.ndarray,
    rows: np.ndarray,
    k: int,
    *,
    query_groups: np.ndarray | None = None,
    row_groups: np.ndarray | None = None,
) -> np.ndarray:
    """For each query float [M, D] the indices, int64 [M, k], of its ``k`` nearest rows float [N, D], nearest first.

    Near means a small angle (cosine similarity), as the linear head sees features. With groups (ints [M] and [N])
    rows of a query's own group are passed over: an image is no neighbour of itself nor of its copies. Where fewer
    than ``k`` rows are left the places stay -1.

    Raises:
        ConfigError: ``k`` below 1.
        DataError: queries and rows of different length.
    """
    if k < 1:
        raise ConfigError("the number of neighbours must be at least 1", received=k)
    queries, rows = unit_rows(queries), unit_rows(rows)
    if queries.shape[1:] != rows.shape[1:]:
        raise DataError("queries and rows need the same features", received=f"{queries.shape} and {rows.shape}")
    found = np.full((len(queries), k), -1, np.int64)
    most = min(k, len(rows))
    for at in range(0, len(queries), _QUERIES_AT_ONCE):
        similar = queries[at : at + _QUERIES_AT_ONCE] @ rows.T
        if query_groups is not None and row_groups is not None:
            similar[query_groups[at : at + _QUERIES_AT_ONCE, None] == row_groups[None, :]] = -np.inf
        best = np.argpartition(-similar, most - 1, axis=1)[:, :most]
        values = np.take_along_axis(similar, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        best, values = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
        found[at : at + _QUERIES_AT_ONCE, :most] = np.where(np.isfinite(values), best, -1)
    return found


def vote(rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, class_count: int, k: int) -> np.ndarray:
    """Log probabilities float32 [M, K] of queries [M, D], by the votes of the ``k`` nearest rows.

    One vote more is spread over all classes, so that none is impossible.

    Raises:
        ConfigError, DataError: as ``nearest`` and ``check_training_rows``.
    """
    rows, labels = check_training_rows(rows, labels, class_count)
    found = nearest(queries, rows, k)
    votes = np.full((len(queries), class_count), 1.0 / class_count)
    for column in found.T:
        there = np.flatnonzero(column >= 0)
        votes[there, labels[column[there]]] += 1.0
    return np.log(votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
