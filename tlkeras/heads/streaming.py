"""Multinomial logistic regression on features that do not fit in memory, in mini-batches.

The objective is that of ``tlkeras.heads.linear`` (sum of the log losses + ||W||² / (2C) on standardised features), so
that a strength C which was chosen on a sample means the same thing here, and it is solved, not approached: each pass
adds up loss and gradient batch by batch, and passes go on until next to nothing is left to gain. Two facts make few
enough:

* One pass adds up the features' means and products, D² numbers. Their eigenvectors are the principal axes, on which
  the Hessian is nearly diagonal; its inverse scales each coordinate's step.
* What the diagonal leaves is learned from the last steps (L-BFGS, Nocedal 1980), so that whole steps are taken.

A solver of our own, because scikit-learn's that take batches approach the optimum without ever saying how near it is.

In memory are, for D features and K classes, ``3 · 8 · D²`` bytes for the products and their eigenvectors and
``16 · 8 · D · K`` for coefficients, gradients and the last steps, besides what the caller's batches hold; see
``memory_bytes``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.linear import CONVERGED_NATS, NOISE_NATS, STRENGTHS, LinearHead, Step, descent, shortened
from tlkeras.heads.logits import log_losses
from tlkeras.progress import Advance

Batch = tuple[np.ndarray, np.ndarray]  # features float32 [n, D], labels int [n] in 0..K-1
Batches = Callable[[], Iterator[Batch]]

PASSES = 100
# Good enough to rank strengths by; the final fit is exact.
_SEARCH_TOLERANCE_NATS = 1e-5
_REMEMBERED = 4
# Of the gain that the slope promises a step must bring this share (Armijo), or it is shortened.
_SUFFICIENT = 1e-4
_SHORTEST_STEP = 1e-3


@dataclass(frozen=True)
class StreamedHead:
    """The head and how it was found.

    curve: for each pass ``pass`` (from 1), ``objective`` (nats an image) there and the ``step`` that led there, a share
    of the one that the curvature asks for. left_nats: what one more step promised to gain, by its quadratic model.
    converged: whether that was under the tolerance.
    """

    head: LinearHead
    curve: list[dict[str, float]]
    rows: int
    left_nats: float
    converged: bool


@dataclass(frozen=True)
class StreamedSearch:
    """The best strength of those that were fitted.

    head: for it, fitted on train and validation. held_out_head: fitted on train alone, as the temperature needs it.
    curve: a row for each strength tried: ``strength`` (C), ``log_loss`` (nats) and ``accuracy`` (0..1) on validation,
    ``passes``. passes: over the rows, in all. left_nats, converged: of ``head``, as in ``StreamedHead``.
    """

    head: LinearHead
    held_out_head: LinearHead
    strength: float
    curve: list[dict[str, Any]]
    passes: int
    left_nats: float
    converged: bool


def memory_bytes(features: int, classes: int) -> int:
    """What ``fit_streaming`` holds at most, besides the batches that it is given."""
    return 3 * 8 * features**2 + 16 * 8 * features * classes


def search_streaming(
    train: Batches,
    validation: Batches,
    both: Batches,
    class_count: int,
    *,
    strength: float,
    start: LinearHead | None = None,
    progress: Advance = lambda done, most: None,
) -> StreamedSearch:
    """Choose a strength by validation and fit a head for it on all rows of train and validation, ``both``.

    It begins at ``strength``, with the head ``start``, which a sample gave, and goes on towards weaker regularisation,
    which more images mostly need, as long as validation gains, or, where the first step there loses, towards stronger.

    Raises: as ``fit_streaming``; DataError when there are no validation rows.
    """
    axes = principal_axes(train, class_count)
    curve: list[dict[str, Any]] = []

    def fitted(number: int, start: LinearHead | None) -> tuple[float, int, LinearHead]:
        streamed = fit_streaming(
            train,
            class_count,
            STRENGTHS[number],
            start=start,
            axes=axes,
            tolerance_nats=_SEARCH_TOLERANCE_NATS,
            progress=progress,
        )
        found = measure(streamed.head, validation)
        curve.append({"strength": STRENGTHS[number], **found, "passes": len(streamed.curve)})
        return found["log_loss"], number, streamed.head

    first = best = fitted(int(np.argmin(np.abs(np.log(np.array(STRENGTHS) / strength)))), start)
    for direction in (1, -1):
        while 0 <= best[1] + direction < len(STRENGTHS):
            other = fitted(best[1] + direction, best[2])
            if other[0] >= best[0]:
                break
            best = other
        if best is not first:
            break
    # Validation has decided what it had to; now its rows are learned from too, as the search in memory does it.
    last = fit_streaming(both, class_count, STRENGTHS[best[1]], start=best[2], progress=progress)
    passes = sum(row["passes"] for row in curve) + len(last.curve)
    return StreamedSearch(last.head, best[2], STRENGTHS[best[1]], curve, passes, last.left_nats, last.converged)


def fit_streaming(
    rows: Batches,
    class_count: int,
    strength: float,
    *,
    start: LinearHead | None = None,
    axes: Axes | None = None,
    passes: int = PASSES,
    tolerance_nats: float = CONVERGED_NATS,
    progress: Advance = lambda done, most: None,
) -> StreamedHead:
    """Fit a linear head for C = ``strength`` on batches that are read again for every pass.

    ``rows`` gives batches of any size, in any order. ``start``: a head, fitted on a sample or for another strength, to
    begin with. ``axes``: of the same rows, from ``principal_axes``, where several strengths are fitted. It stops when
    the mean objective is, by its quadratic model, within ``tolerance_nats`` of the minimum, at most after ``passes``;
    the result says which.

    Raises: DataError when there are no rows, or values that are not finite; ConfigError for options out of range.
    """
    if class_count < 2 or not 0 < strength < np.inf or passes < 1:
        raise ConfigError("a head needs two classes, a positive strength and passes from 1",
                          received=f"{class_count}, {strength}, {passes}")  # fmt: skip
    axes = axes or principal_axes(rows, class_count)
    # The norm of the difference of two opposite columns is twice their own, as in tlkeras.heads.linear.
    decay = (2.0 if class_count == 2 else 1.0) / (strength * axes.rows)
    theta = axes.coefficients(start, class_count)
    here = _objective(axes, rows, theta, decay)
    curve = [{"pass": 1, "objective": here.value, "step": 0.0}]
    steps: deque[Step] = deque(maxlen=_REMEMBERED)
    length = 1.0
    while True:
        inverse = 1.0 / (np.append(axes.spread, 1.0)[:, None] * np.maximum(here.variance, 1e-3) + decay)
        direction = descent(here.gradient, steps, inverse)
        slope = float((direction * here.gradient).sum())
        if -slope < 2 * tolerance_nats or len(curve) >= passes or length < _SHORTEST_STEP:
            break
        there = _objective(axes, rows, theta + length * direction, decay)
        curve.append({"pass": len(curve) + 1, "objective": there.value, "step": length})
        progress(len(curve), passes)
        if there.value > here.value + _SUFFICIENT * length * slope + NOISE_NATS:
            length *= shortened(slope * length, there.value - here.value)
            continue
        change, difference = length * direction, there.gradient - here.gradient
        if (curvature := float((change * difference).sum())) > 0.0:
            steps.append((change, difference, 1.0 / curvature))
        theta, here, length = theta + change, there, 1.0
    return StreamedHead(axes.head(theta), curve, axes.rows, -slope / 2, -slope < 2 * tolerance_nats)


def measure(head: LinearHead, rows: Batches) -> dict[str, float]:
    """``log_loss`` (nats) and ``accuracy`` (0..1) of a head.

    Raises: DataError when there are no rows.
    """
    loss, right, count = 0.0, 0, 0
    for features, labels in rows():
        logits = head.logits(features)
        loss += float(log_losses(logits, labels).sum())
        right += int((logits.argmax(axis=1) == labels).sum())
        count += len(labels)
    if not count:
        raise DataError("there are no validation rows", received="no batch with rows")
    return {"log_loss": loss / count, "accuracy": right / count}


@dataclass(frozen=True)
class Axes:
    """Principal axes of all rows: ``basis`` float64 [D, R] takes standardised rows there.

    spread: float64 [R], the rows' variance along each; prior: float64 [K], the classes' shares.
    """

    rows: int
    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    spread: np.ndarray
    prior: np.ndarray

    def head(self, theta: np.ndarray) -> LinearHead:
        """The head on raw features for coefficients and, in the last row, intercepts: float64 [R + 1, K]."""
        weights = (self.basis @ theta[:-1]) / self.scale[:, None]
        return LinearHead(weights.astype(np.float32), (theta[-1] - self.mean @ weights).astype(np.float32))

    def coefficients(self, head: LinearHead | None, class_count: int) -> np.ndarray:
        """The inverse of ``head``: float64 [R + 1, K]; without a head, the best one of strongest regularisation."""
        theta = np.zeros((len(self.spread) + 1, class_count))
        if head is None:
            theta[-1] = np.log(self.prior)
        else:
            weights = head.weights.astype(np.float64)
            theta[:-1] = self.basis.T @ (weights * self.scale[:, None])
            theta[-1] = head.bias + self.mean @ weights
        theta[-1] -= theta[-1].mean()
        return theta


def principal_axes(rows: Batches, class_count: int) -> Axes:
    """One pass: the axes on which features do not hang together.

    Raises: DataError when there are no rows, or values that are not finite.
    """
    import scipy.linalg

    count = 0
    counts = np.full(class_count, 0.5)
    total: np.ndarray | None = None
    for features, labels in rows():
        if not len(labels):
            continue
        if not np.isfinite(features).all():
            raise DataError("features must be finite", received="NaN or infinity", next_step="Extract them again.")
        if total is None:
            # The first rows' mean as origin: differences of large numbers would lose the small ones.
            origin = features.mean(axis=0, dtype=np.float64)
            total, products = np.zeros_like(origin), np.zeros((len(origin), len(origin)))
        centred = features - origin.astype(np.float32)
        total += centred.sum(axis=0, dtype=np.float64)
        products += centred.T @ centred
        counts += np.bincount(labels, minlength=class_count)
        count += len(labels)
    if total is None:
        raise DataError("there are no training rows", received="no batch with rows")
    shift = total / count
    products /= count
    products -= np.outer(shift, shift)
    mean = origin + shift
    scale = np.sqrt(np.maximum(np.diagonal(products), 0.0))
    constant = scale <= 1e-6 * np.abs(mean) + 1e-30
    scale[constant] = 1.0
    products /= scale[:, None]
    products /= scale[None, :]
    products[constant, :] = 0.0
    products[:, constant] = 0.0
    values, vectors = scipy.linalg.eigh(products, overwrite_a=True, check_finite=False)
    kept = values > 1e-9 * max(float(values[-1]), 1e-30)
    kept[-1] = True
    return Axes(count, mean, scale, vectors[:, kept], np.maximum(values[kept], 1e-30), counts / counts.sum())


@dataclass(frozen=True)
class _Objective:
    """One pass's findings: the objective, its gradient [R + 1, K], and the mean of p (1 - p) for each class, [K]."""

    value: float
    gradient: np.ndarray
    variance: np.ndarray


def _objective(axes: Axes, rows: Batches, theta: np.ndarray, decay: float) -> _Objective:
    import scipy.special

    # On raw features less their mean, and taken to the axes once: rotating every row would cost D² for each.
    weights = ((axes.basis @ theta[:-1]) / axes.scale[:, None]).astype(np.float32)
    bias, centre = theta[-1].astype(np.float32), axes.mean.astype(np.float32)
    loss, variance = 0.0, np.zeros(theta.shape[1])
    products, residuals = np.zeros(weights.shape), np.zeros(theta.shape[1])
    for features, labels in rows():
        centred = features - centre
        residual = scipy.special.log_softmax(centred @ weights + bias, axis=1)
        at = np.arange(len(labels))
        loss -= float(residual[at, labels].sum(dtype=np.float64))
        np.exp(residual, out=residual)
        variance += (residual * (1.0 - residual)).sum(axis=0, dtype=np.float64)
        residual[at, labels] -= 1.0
        products += centred.T @ residual
        residuals += residual.sum(axis=0, dtype=np.float64)
    gradient = np.empty_like(theta)
    gradient[:-1] = axes.basis.T @ (products / axes.scale[:, None]) / axes.rows + decay * theta[:-1]
    gradient[-1] = residuals / axes.rows
    value = loss / axes.rows + 0.5 * decay * float((theta[:-1] ** 2).sum())
    return _Objective(value, gradient, variance / axes.rows)
