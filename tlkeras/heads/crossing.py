"""Judging every image by heads and choices that had not seen it: nested cross-validation (Stone 1974)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tlkeras.heads.folds import VALIDATION_IMAGES
from tlkeras.heads.linear import PathSolver, RotatedFeatures
from tlkeras.heads.logits import fit_temperature, log_losses

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


@dataclass
class Heads:
    """Heads fitted on the rows outside of some folds, each going on along the path from where it ended."""

    rotated: RotatedFeatures
    labels: np.ndarray
    folds: np.ndarray
    class_count: int
    weights: np.ndarray | None = None
    ends: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)

    def without(self, folds: tuple[int, ...], strength: float) -> PathSolver:
        """The head for C = ``strength`` that has not seen these folds."""
        kept = np.logical_and.reduce([self.folds != fold for fold in folds])
        # Rows are copied for as long as a head is fitted, so that memory holds few of them.
        rows, spread = self.rotated.rows[kept], self.rotated.spread
        weights = None if self.weights is None else self.weights[kept]
        solver = PathSolver(
            rows, self.labels[kept], self.class_count, spread, weights=weights, start=self.ends.get(folds)
        )
        self.ends[folds] = solver.solve(strength, tolerance_nats=_SEARCH_TOLERANCE_NATS).theta
        return solver

    def loss(self, logits: np.ndarray, rows: np.ndarray) -> float:
        """The mean log loss of logits [M, K] of some rows, int [M]; weighted where heads are fitted so."""
        losses = log_losses(logits, self.labels[rows])
        return float(np.average(losses, weights=None if self.weights is None else self.weights[rows]))


class Judges:
    """For each fold a strength and a temperature, chosen by heads that saw neither it nor the fold that judges them.

    Two folds judge each other by one head, the one without both. Where a fold is large one other judges it, else all.
    ``logits`` float32 [N, K]: of each fold's rows at its own strength, by the head that was fitted on all other folds.
    """

    def __init__(self, heads: Heads, middle: float) -> None:
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
            loss = self.heads.loss(judged, rows)
            if loss < self.losses[fold]:
                self.losses[fold], self.places[fold] = loss, place
                self.judged[fold : fold + 1] = [(judged, rows)]
                self.logits[self.rows[fold]] = logits[self.rows[fold]]

    def temperatures(self) -> np.ndarray:
        """Float64 [folds], each from what its judges were told."""
        labels = self.heads.labels
        return np.array([fit_temperature(judged, labels[rows]) for judged, rows in self.judged] or [1.0] * self.count)

    def losses_by(self, weights: np.ndarray) -> np.ndarray:
        """Float64 [folds], the log loss that judges found at the strength of each, by other weights [N]."""
        found = [
            np.average(log_losses(judged, self.heads.labels[rows]), weights=weights[rows])
            for judged, rows in self.judged
        ]
        return np.array(found or [np.inf] * self.count)

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
