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
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.folds import VALIDATION_IMAGES, crossing_folds, held_out_folds, out_of_fold
from tlkeras.heads.linear import (
    STRENGTHS,
    LinearHead,
    PathSolver,
    RotatedFeatures,
    check_training_rows,
    rotate,
)
from tlkeras.heads.logits import fit_temperature, log_loss_and_accuracy, log_losses

# Strengths in a row without a better log loss after which the rest of the path is left out.
_PATIENCE = 2
# Good enough to rank strengths; the final fit is exact.
_SEARCH_TOLERANCE_NATS = 3e-6


@dataclass(frozen=True)
class Crossing:
    """Who judged M held-out images: for each fold a head that had seen none of it.

    ``folds`` int64 [M]. ``temperatures`` float64 [folds], each fitted without its fold. ``repeats``: how often folds
    were dealt; these are the ones of median log loss. ``instability``, 0..1: the share of the variance of right and
    wrong that comes from which images a head was fitted on, rather than from the image that is judged.
    """

    folds: np.ndarray
    temperatures: np.ndarray
    repeats: int = 1
    instability: float = 0.0


@dataclass(frozen=True)
class HeadResult:
    """The chosen head and how it was chosen.

    ``curve`` has a row per strength tried: ``strength`` (C), ``log_loss`` (nats) and ``accuracy`` (0..1) on held-out
    images. ``held_out_logits`` float32 [M, K],
    ``held_out_labels`` int [M] and ``held_out_indices`` int [M] are these images at the chosen strength; the indices
    count through train, then validation. ``converged``: whether the head is the optimum for its strength. ``crossing``:
    where the choice was made anew for every fold, its folds; ``held_out_logits`` are then of these choices.
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
) -> HeadResult:
    """Search the L2 path and refit the best strength on train and validation together.

    Features are float [N, D], labels int [N]; validation may be None or empty. ``groups`` int [train + validation]
    numbers images that belong together (duplicates) and therefore share a fold. Standardisation uses all features
    given here, held-out ones too, but never their labels. ``crossed``: nested folds over all images, see above.

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
    dealings = (
        crossing_folds(labels, seed, groups=groups)
        if crossed
        else [held_out_folds(labels, train_count, seed, groups=groups)]
    )
    rotated = rotate(features)
    held_out = np.flatnonzero(dealings[0] >= 0)
    crossing = None
    if len(held_out):
        tried = [_search(rotated, labels, folds, class_count, ordered, nested=crossed) for folds in dealings]
        found = sorted(tried, key=lambda one: float(log_losses(one.logits[held_out], labels[held_out]).mean()))
        chosen = found[len(found) // 2]
        curve, strength, logits = chosen.curve, chosen.strength, chosen.logits[held_out]
        if chosen.temperatures is not None:
            folds = chosen.folds[held_out]
            crossing = Crossing(folds, chosen.temperatures, len(dealings), chosen.instability)
    else:
        # One image (or group) per class: nothing can be held out, so the middle of the path it is.
        curve, strength, logits = [], _middle(ordered), np.zeros((0, class_count), np.float32)
    final = PathSolver(rotated.rows, labels, class_count, rotated.spread).solve(strength)
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
    )


def _middle(strengths: Sequence[float]) -> float:
    return strengths[len(strengths) // 2]


@dataclass
class _Heads:
    """Heads fitted on the rows outside of some folds, each going on along the path from where it ended."""

    rotated: RotatedFeatures
    labels: np.ndarray
    folds: np.ndarray
    class_count: int
    ends: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)

    def without(self, folds: tuple[int, ...], strength: float) -> PathSolver:
        """The head for C = ``strength`` that has not seen these folds."""
        kept = np.logical_and.reduce([self.folds != fold for fold in folds])
        # Rows are copied for as long as a head is fitted, so that memory holds few of them.
        rows, spread = self.rotated.rows[kept], self.rotated.spread
        solver = PathSolver(rows, self.labels[kept], self.class_count, spread, start=self.ends.get(folds))
        self.ends[folds] = solver.solve(strength, tolerance_nats=_SEARCH_TOLERANCE_NATS).theta
        return solver


@dataclass(frozen=True)
class _Search:
    """A path that was walked: its curve, the best strength, and logits [N, K] of the held-out rows.

    Nested, ``logits`` are those at each fold's own strength, and ``temperatures`` [folds] its own ones.
    """

    folds: np.ndarray
    curve: list[dict[str, float]]
    strength: float
    logits: np.ndarray
    temperatures: np.ndarray | None = None
    instability: float = 0.0


def _search(
    rotated: RotatedFeatures,
    labels: np.ndarray,
    folds: np.ndarray,
    class_count: int,
    strengths: Sequence[float],
    *,
    nested: bool,
) -> _Search:
    """Walk the path until the log loss of held-out rows is past its best; ``nested``: for every fold's judges, too."""
    heads = _Heads(rotated, labels, folds, class_count)
    inner = _Inner(heads, _middle(strengths)) if nested else None

    def answer(_: np.ndarray, out: np.ndarray, strength: float) -> np.ndarray:
        return heads.without((int(folds[out[0]]),), strength).logits(rotated.rows[out])

    held_out = np.flatnonzero(folds >= 0)
    curve: list[dict[str, float]] = []
    best, chosen = 0, np.zeros(0)
    for place, strength in enumerate(strengths):
        logits = out_of_fold(folds, class_count, partial(answer, strength=strength))
        curve.append({"strength": strength, **log_loss_and_accuracy(logits[held_out], labels[held_out])})
        # The first of equals is the strongest regularisation.
        if place == 0 or curve[place]["log_loss"] < curve[best]["log_loss"]:
            best, chosen = place, logits
        if inner is not None:
            inner.judge(place, strength, logits, best == place)
        if place - max(best, inner.latest if inner else 0) >= _PATIENCE:
            break
    if inner is None:
        return _Search(folds, curve, strengths[best], chosen)
    return _Search(folds, curve, strengths[best], inner.logits, inner.temperatures(), inner.instability())


class _Inner:
    """For each fold a strength and a temperature, chosen by heads that saw neither it nor the fold that judges them.

    Two folds judge each other by one head, the one without both. Where a fold is large one other judges it, else all.
    ``logits`` float32 [N, K]: of each fold's rows at its own strength, by the head that was fitted on all other folds.
    """

    def __init__(self, heads: _Heads, middle: float) -> None:
        self.heads, self.middle = heads, middle
        self.count = count = int(heads.folds.max()) + 1
        self.rows = [np.flatnonzero(heads.folds == fold) for fold in range(count)]
        judges = 1 if len(heads.folds) / count >= VALIDATION_IMAGES else count - 1
        # Of two folds nothing is left to fit on, but images that are never held out.
        self.judges = [[(fold + step) % count for step in range(1, judges + 1)] for fold in range(count)] * (count > 2)
        self.pairs = sorted({(min(a, b), max(a, b)) for a, others in enumerate(self.judges) for b in others})
        self.logits = np.zeros((len(heads.folds), heads.class_count), np.float32)
        self.losses, self.places = np.full(count, np.inf), np.zeros(count, np.int64)
        self.judged: list[tuple[np.ndarray, np.ndarray]] = []
        self.right: dict[tuple[int, int], np.ndarray] = {}

    @property
    def latest(self) -> int:
        """The last place on the path at which a fold found something better."""
        return int(self.places.max())

    def judge(self, place: int, strength: float, logits: np.ndarray, best: bool) -> None:
        """Look at one strength; ``logits`` [N, K] are of the heads without one fold, ``best`` by all so far."""
        labels = self.heads.labels
        made: dict[tuple[int, int], np.ndarray] = {}  # of the second fold's rows, by the head without both
        for one, other in self.pairs:
            head = self.heads.without((one, other), strength)
            made[one, other] = head.logits(self.heads.rotated.rows[self.rows[other]])
            made[other, one] = head.logits(self.heads.rotated.rows[self.rows[one]])
        if best:
            self.right = {pair: of.argmax(axis=1) == labels[self.rows[pair[1]]] for pair, of in made.items()}
        if not self.judges and strength <= self.middle:
            self.logits = logits
        for fold, judges in enumerate(self.judges):
            rows = np.concatenate([self.rows[judge] for judge in judges])
            judged = np.concatenate([made[fold, judge] for judge in judges])
            loss = float(log_losses(judged, labels[rows]).mean())
            if loss < self.losses[fold]:
                self.losses[fold], self.places[fold] = loss, place
                self.judged[fold : fold + 1] = [(judged, labels[rows])]
                self.logits[self.rows[fold]] = logits[self.rows[fold]]

    def temperatures(self) -> np.ndarray:
        """Float64 [folds], each from what its judges were told."""
        return np.array([fit_temperature(*one) for one in self.judged] or [1.0] * self.count)

    def instability(self) -> float:
        """See ``Crossing``: how much several heads differ over the same images, which they had not seen.

        Two of them share all but one fold of what they were fitted on, so they differ less than heads of other images
        would: by the square root of one in ``folds - 2``, their margins being sums over the images.
        """
        if self.count < 3:
            return 1.0
        spread = np.zeros(len(self.heads.folds))
        share = 0.0
        for fold, rows in enumerate(self.rows):
            told = np.array([right for (_, judged), right in self.right.items() if judged == fold])
            spread[rows] = told.var(axis=0, ddof=1)
            share += told.mean() * len(rows)
        share /= sum(map(len, self.rows))
        variance = share * (1 - share)
        if not variance:
            return 0.0
        within = spread[self.heads.folds >= 0].mean() * (self.count - 2) / np.sqrt(self.count - 1)
        return float(min(1.0, within / variance))
