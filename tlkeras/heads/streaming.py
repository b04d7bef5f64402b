"""Multinomial logistic regression on features that do not fit in memory, in mini-batches.

The objective is that of ``tlkeras.heads.linear`` (sum of the log losses + ||W||² / (2C) on standardised features), so
that a strength C which was chosen on a sample means the same thing here. Two facts make few passes enough:

* One pass adds up the features' means and products, D² numbers. Their eigenvectors are the principal axes, on which
  the Hessian is nearly diagonal; its inverse scales each coordinate's step.
* The mean of the iterates is as good as Newton's method where single iterates still jump about (Polyak and Juditsky
  1992); it is the one that is measured and returned, and each pass begins from it. After a pass that has gained
  nothing the next one begins from the best so far with a quarter of the step. The first step is tried out: where
  features are many and each tells little, the usual one is too long by far.

In memory are, for D features and K classes, ``3 · 8 · D²`` bytes for the products and their eigenvectors and
``6 · 8 · D · K`` for the coefficients, besides what the caller's batches hold; see ``memory_bytes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.special

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.linear import LinearHead

Batch = tuple[np.ndarray, np.ndarray]  # features float32 [n, D], labels int [n] in 0..K-1
Batches = Callable[[int], Iterator[Batch]]  # by the number of the pass, which may decide the order

MINI_BATCH = 512
FIRST_STEP = 1.0
SLOWER = 4.0
# How often the first step is shortened at most: where the start is the best already, every shorter one is better.
TRIALS = 5
# A pass that lowers the validation log loss by less has gained nothing.
LEAST_GAIN_NATS = 3e-5


@dataclass(frozen=True)
class Streamed:
    """The head and its ``log_loss`` (nats) on validation.

    curve: for each pass ``pass`` (from 1), ``log_loss`` and ``accuracy`` (0..1) on validation. steps: of the passes
    that led to the head, of which there may be none.
    """

    head: LinearHead
    log_loss: float
    curve: list[dict[str, float]]
    rows: int
    steps: tuple[float, ...]


def memory_bytes(features: int, classes: int) -> int:
    """What ``fit_streaming`` holds at most, besides the batches that it is given."""
    return 3 * 8 * features**2 + 6 * 8 * features * classes


def fit_streaming(
    train: Batches,
    validation: Batches,
    class_count: int,
    strength: float,
    *,
    start: LinearHead | None = None,
    passes: int = 30,
    patience: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, most: None,
) -> Streamed:
    """Fit a linear head for C = ``strength`` on batches that are read again for every pass.

    ``train`` and ``validation`` give batches of any size; rows are shuffled within a batch, so give large ones.
    ``start``: a head, fitted on a sample, to begin with. It stops when ``patience`` passes have not lowered the
    validation log loss by ``LEAST_GAIN_NATS``, at most after ``passes``; the best pass's head is returned.

    Raises: DataError when there are no rows, or values that are not finite; ConfigError for options out of range.
    """
    if class_count < 2 or not 0 < strength < np.inf or passes < 1 or patience < 1:
        raise ConfigError("a head needs two classes, a positive strength, passes and patience from 1",
                          received=f"{class_count}, {strength}, {passes}, {patience}")  # fmt: skip
    axes = _axes(train, class_count)
    decay = _decay(axes.rows, class_count, strength)
    theta = axes.coefficients(start, class_count)
    best, best_theta, since = _measure(axes.head(theta), validation), theta, 0
    taken: list[float] = []
    steps: tuple[float, ...] = ()
    curve: list[dict[str, float]] = []
    random = np.random.default_rng(seed)
    step = _first_step(axes, train, validation, theta, decay, random)
    for number in range(1, passes + 1):
        theta = _one_pass(axes, train(number), theta, decay, step, random)
        taken.append(step)
        found = _measure(axes.head(theta), validation)
        curve.append({"pass": number, **found})
        progress(number, passes)
        since = 0 if found["log_loss"] < best["log_loss"] - LEAST_GAIN_NATS else since + 1
        if found["log_loss"] < best["log_loss"]:
            best, best_theta, steps = found, theta, tuple(taken)
        if since >= patience:
            break
        if since:
            # A pass that lost has only jumped about: from the best one again, more gently.
            theta, taken = best_theta, list(steps)
            step /= SLOWER
    return Streamed(axes.head(best_theta), best["log_loss"], curve, axes.rows, steps)


def _first_step(
    axes: _Axes, train: Batches, validation: Batches, theta: np.ndarray, decay: float, random: np.random.Generator
) -> float:
    """The longest step of which a quarter is not better after one pass: what a longer one breaks takes many to mend."""
    step, loss = FIRST_STEP, np.inf
    for _ in range(TRIALS):
        found = _measure(axes.head(_one_pass(axes, train(1), theta, decay, step, random)), validation)["log_loss"]
        if found >= loss:
            return step * SLOWER
        step, loss = step / SLOWER, found
    return step * SLOWER


def refit_streaming(
    rows: Batches,
    class_count: int,
    course: Sequence[tuple[float, Sequence[float]]],
    *,
    start: LinearHead | None = None,
    seed: int = 0,
) -> LinearHead:
    """Take the same course again on more rows, those of validation among them, when there is nothing left to choose.

    ``course``: strengths, and for each the steps of the passes that led to its best head (``Streamed.steps``): where a
    fit was stopped is a choice like the strength. ``rows``, ``start``: see ``fit_streaming``.

    Raises: DataError as ``fit_streaming`` does.
    """
    axes = _axes(rows, class_count)
    theta = axes.coefficients(start, class_count)
    random = np.random.default_rng(seed)
    number = 0
    for strength, steps in course:
        for step in steps:
            number += 1
            theta = _one_pass(axes, rows(number), theta, _decay(axes.rows, class_count, strength), step, random)
    return axes.head(theta)


def _decay(rows: int, class_count: int, strength: float) -> float:
    """Weight of ||W||² / 2 beside the mean of the log losses."""
    # The norm of the difference of two opposite columns is twice their own, as in tlkeras.heads.linear.
    return (2.0 if class_count == 2 else 1.0) / (strength * rows)


@dataclass(frozen=True)
class _Axes:
    """Principal axes of all training rows: ``standard`` float64 [D, R] takes centred rows there."""

    rows: int
    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    spread: np.ndarray
    prior: np.ndarray

    def rotated(self, features: np.ndarray) -> np.ndarray:
        """Rows float32 [n, R] on the axes."""
        weights = (self.basis / self.scale[:, None]).astype(np.float32)
        return np.asarray((features - self.mean.astype(np.float32)) @ weights)

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


def _axes(train: Batches, class_count: int) -> _Axes:
    rows = 0
    counts = np.full(class_count, 0.5)
    total: np.ndarray | None = None
    for features, labels in train(0):
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
        rows += len(labels)
    if total is None:
        raise DataError("there are no training rows", received="no batch with rows")
    shift = total / rows
    products /= rows
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
    return _Axes(rows, mean, scale, vectors[:, kept], np.maximum(values[kept], 1e-30), counts / counts.sum())


def _one_pass(
    axes: _Axes,
    batches: Iterator[Batch],
    theta: np.ndarray,
    decay: float,
    step: float,
    random: np.random.Generator,
) -> np.ndarray:
    """The mean of the iterates of one pass; those of its first tenth, which still hang on the start, are left out."""
    classes = theta.shape[1]
    theta = theta.copy()
    mean, summed, seen = theta.copy(), 0, 0
    # p (1 - p) of a class, for the share of images that are in doubt; from what the batches say, with a floor.
    variance = np.full(classes, 0.25 if classes == 2 else float(np.mean(axes.prior * (1 - axes.prior))))
    for features, labels in batches:
        order = random.permutation(len(labels))
        rotated = axes.rotated(features)
        for at in range(0, len(order), MINI_BATCH):
            chosen = order[at : at + MINI_BATCH]
            rows, picked = rotated[chosen], labels[chosen]
            residual = scipy.special.softmax(rows @ theta[:-1].astype(np.float32) + theta[-1], axis=1)
            residual[np.arange(len(picked)), picked] -= 1.0
            distance = np.abs(residual)
            now = (distance * (1.0 - distance)).mean(axis=0)
            variance = np.maximum(0.98 * variance + 0.02 * now, 1e-3)
            gradient = np.empty_like(theta)
            gradient[:-1] = rows.T @ residual / len(picked) + decay * theta[:-1]
            gradient[-1] = residual.mean(axis=0)
            # A mini-batch knows no direction better than to one row's share, hence the floor below the spread.
            floor = axes.spread.sum() / MINI_BATCH
            gradient[:-1] /= (axes.spread + floor)[:, None] * variance + decay
            gradient[-1] /= variance
            theta -= step * gradient
            seen += len(picked)
            if seen > axes.rows / 10:
                summed += 1
                mean += (theta - mean) / summed
    return mean if summed else theta


def _measure(head: LinearHead, validation: Batches) -> dict[str, float]:
    loss, right, rows = 0.0, 0, 0
    for features, labels in validation(0):
        logits = head.logits(features).astype(np.float64)
        loss += float((scipy.special.logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]).sum())
        right += int((logits.argmax(axis=1) == labels).sum())
        rows += len(labels)
    if not rows:
        raise DataError("there are no validation rows", received="no batch with rows")
    return {"log_loss": loss / rows, "accuracy": right / rows}
