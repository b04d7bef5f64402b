"""Linear heads along a path of L2 strengths; choose one on held-out images, then refit on all of them.

Enough validation images: fit on train, choose on validation. Otherwise train and validation are pooled and
cross-validated in stratified, seeded folds. Either way the held-out logits at the chosen strength come back: the
temperature is fitted on them later.

``crossed``: the choice is made anew for every fold, by heads that saw neither the fold nor the images that they are
judged by (nested cross-validation, Stone 1974). Then what is held out may be measured as a test set is.

The criterion is the held-out log loss. On six splits each of pets, flowers, steel and cats-vs-dogs features the heads
that it chose were on average as accurate as those with the highest held-out accuracy (94.1 and 94.0 %, within the
noise of the splits; a little better on flowers, a little worse on pets) and had the lower test log loss. Held-out
accuracy jumps by whole images and is often equal for many strengths.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tlkeras.errors import ConfigError, DataError, unknown
from tlkeras.heads.config import BALANCES
from tlkeras.heads.crossing import Crossing, Heads, Judges
from tlkeras.heads.folds import crossing_folds, held_out_folds, out_of_fold
from tlkeras.heads.linear import (
    STRENGTHS,
    LinearHead,
    PathSolver,
    RotatedFeatures,
    check_training_rows,
    rotate,
)
from tlkeras.heads.logits import log_loss_and_accuracy, log_losses

# Strengths in a row without a better log loss after which the rest of the path is left out.
_PATIENCE = 2
# Largest class over smallest from which on balancing them is tried.
UNEVEN = 3.0


@dataclass(frozen=True)
class HeadResult:
    """The chosen head and how it was chosen.

    ``curve`` has a row per strength tried: ``strength`` (C), ``log_loss`` (nats) and ``accuracy`` (0..1) on held-out
    images. ``held_out_logits`` float32 [M, K],
    ``held_out_labels`` int [M] and ``held_out_indices`` int [M] are these images at the chosen strength; the indices
    count through train, then validation. ``converged``: whether the head is the optimum for its strength. ``crossing``:
    where the choice was made anew for every fold, its folds; ``held_out_logits`` are then of these choices.
    ``balance``: "classes" where every class counts the same in the head's loss.
    """

    head: LinearHead
    strength: float
    curve: list[dict[str, float]]
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    held_out_indices: np.ndarray
    converged: bool
    seconds: float
    crossing: Crossing | None = None
    balance: str = "none"


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
    crossed: bool = False,
    balance: str = "none",
) -> HeadResult:
    """Search the L2 path and refit the best strength on train and validation together.

    Features are float [N, D], labels int [N]; validation may be None or empty. ``groups`` int [train + validation]
    numbers images that belong together (duplicates) and therefore share a fold. Standardisation uses all features
    given here, held-out ones too, but never their labels. ``crossed``: nested folds over all images, see above.

    ``balance``: "classes" weighs images so that every class counts the same in the loss, and in what strengths are
    chosen by; so its answers suppose that classes are equally frequent. "auto" does so where classes are uneven
    (``UNEVEN``) and the macro log loss, the mean over classes of theirs, of held-out images is lower with it.

    Raises:
        DataError: features, labels or groups that do not fit each other.
        ConfigError: fewer than two classes, strengths that are not positive, an unknown balance.
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
    dealings = (
        crossing_folds(labels, seed, groups=groups)
        if crossed
        else [held_out_folds(labels, train_count, seed, groups=groups)]
    )
    rotated = rotate(features)
    held_out = np.flatnonzero(dealings[0] >= 0)
    crossing = None
    if len(held_out):
        found = [
            _best([_search(rotated, labels, folds, class_count, ordered, weights, nested=crossed)
                   for weights in _weightings(labels, balance)])
            for folds in dealings
        ]  # fmt: skip
        found.sort(key=lambda one: float(log_losses(one.logits[held_out], labels[held_out]).mean()))
        chosen = found[len(found) // 2]
        curve, strength, logits, weights = chosen.curve, chosen.strength, chosen.logits[held_out], chosen.weights
        if chosen.temperatures is not None:
            folds = chosen.folds[held_out]
            crossing = Crossing(folds, chosen.temperatures, len(dealings), chosen.instability)
    else:
        # One image (or group) per class: nothing can be held out, so the middle of the path it is.
        curve, strength, logits = [], _middle(ordered), np.zeros((0, class_count), np.float32)
        weights = _weightings(labels, balance)[0]
    final = PathSolver(rotated.rows, labels, class_count, rotated.spread, weights=weights).solve(strength)
    return HeadResult(
        head=rotated.head(final.coefficients, final.intercepts),
        strength=strength,
        curve=curve,
        held_out_logits=logits,
        held_out_labels=labels[held_out],
        held_out_indices=held_out,
        converged=final.converged,
        seconds=time.perf_counter() - began,
        crossing=crossing,
        balance="none" if weights is None else "classes",
    )


def class_weights(labels: np.ndarray) -> np.ndarray:
    """What each image counts, float64 [N] of mean 1, so that every class that occurs counts the same."""
    counts = np.bincount(labels)
    return np.asarray(len(labels) / (np.count_nonzero(counts) * counts[labels]))


def _weightings(labels: np.ndarray, balance: str) -> list[np.ndarray | None]:
    """The weights that are tried."""
    if balance not in BALANCES:
        raise unknown("balance", balance, BALANCES)
    counts = np.bincount(labels)
    uneven = counts.max() > UNEVEN * counts[counts > 0].min()
    tried = {"none": [False], "classes": [True], "auto": [False, True] if uneven else [False]}[balance]
    return [class_weights(labels) if weighted else None for weighted in tried]


def _middle(strengths: Sequence[float]) -> float:
    return strengths[len(strengths) // 2]


@dataclass(frozen=True)
class _Search:
    """A path that was walked: its curve, the best strength, and logits [N, K] of the held-out rows.

    ``macro``: the mean over classes of the log loss of these. Nested, ``logits`` are those at each fold's own strength,
    ``temperatures`` [folds] its own ones, and ``macros`` [folds] what its judges found there.
    """

    folds: np.ndarray
    weights: np.ndarray | None
    curve: list[dict[str, float]]
    strength: float
    logits: np.ndarray
    macro: float
    temperatures: np.ndarray | None = None
    macros: np.ndarray | None = None
    instability: float = 0.0


def _best(tried: Sequence[_Search]) -> _Search:
    """The search of the lowest macro log loss; nested, every fold's answers are of the one that its judges choose."""
    best = min(tried, key=lambda one: one.macro)
    if best.temperatures is None or len(tried) == 1:
        return best
    logits, temperatures = best.logits.copy(), best.temperatures.copy()
    for fold in range(len(temperatures)):
        chosen = min(tried, key=lambda one: float(one.macros[fold]) if one.macros is not None else np.inf)
        logits[best.folds == fold] = chosen.logits[best.folds == fold]
        if chosen.temperatures is not None:
            temperatures[fold] = chosen.temperatures[fold]
    return replace(best, logits=logits, temperatures=temperatures)


def _search(
    rotated: RotatedFeatures,
    labels: np.ndarray,
    folds: np.ndarray,
    class_count: int,
    strengths: Sequence[float],
    weights: np.ndarray | None = None,
    *,
    nested: bool,
) -> _Search:
    """Walk the path until the log loss of held-out rows is past its best; ``nested``: for every fold's judges, too."""
    heads = Heads(rotated, labels, folds, class_count, weights)
    judges = Judges(heads, _middle(strengths)) if nested else None

    def answer(_: np.ndarray, out: np.ndarray, strength: float) -> np.ndarray:
        return heads.without((int(folds[out[0]]),), strength).logits(rotated.rows[out])

    held_out = np.flatnonzero(folds >= 0)
    curve: list[dict[str, float]] = []
    best, least, chosen = 0, np.inf, np.zeros((0, class_count))
    for place, strength in enumerate(strengths):
        logits = out_of_fold(folds, class_count, partial(answer, strength=strength))
        curve.append({"strength": strength, **log_loss_and_accuracy(logits[held_out], labels[held_out])})
        loss = heads.loss(logits[held_out], held_out)
        # The first of equals is the strongest regularisation.
        if loss < least:
            best, least, chosen = place, loss, logits
        if judges is not None:
            judges.judge(place, strength, logits, best == place)
        if place - max(best, judges.latest if judges else 0) >= _PATIENCE:
            break
    even = class_weights(labels)
    macro = float(np.average(log_losses(chosen[held_out], labels[held_out]), weights=even[held_out]))
    found = _Search(folds, weights, curve, strengths[best], chosen, macro)
    if judges is None:
        return found
    return replace(
        found,
        logits=judges.logits,
        temperatures=judges.temperatures(),
        macros=judges.losses_by(even),
        instability=judges.instability(),
    )
