"""From logits to answers: probabilities, log loss, the order of classes, and the temperature between them.

NumPy is all that answering takes: an exported classifier ranks without SciPy, whose import takes as long as a photo.
"""

from __future__ import annotations

import numpy as np

from tlkeras.errors import ConfigError, DataError

TEMPERATURE_RANGE: tuple[float, float] = (0.05, 20.0)
# Images of no class that are added in thought when a temperature is fitted, as in Laplace's rule and Platt's (1999):
# a few right answers do not prove that the next one is right too. Chosen by ``benchmarks/temperature.py``.
_UNDECIDED_IMAGES = 2


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float32 [N, K] of logits [N, K] divided by a temperature; float64 inside, without overflow.

    Raises:
        ConfigError: a temperature that is not positive and finite.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ConfigError("a temperature must be positive and finite", received=temperature)
    wide = np.asarray(logits, np.float64) / temperature
    shares = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True), np.float32)


def log_losses(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Log loss in nats of each row of logits [N, K] divided by a temperature: float64 [N]. ``labels``: int [N]."""
    wide, rows = np.asarray(logits, np.float64) / temperature, np.arange(len(labels))
    best = wide.argmax(axis=1)
    wide = wide - wide[rows, best][:, None]
    others = np.exp(wide)
    others[rows, best] = 0.0
    # A loss far below 1 keeps its digits.
    return np.asarray(np.log1p(others.sum(axis=1)) - wide[rows, labels])


def log_loss_and_accuracy(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """``log_loss`` (mean, nats) and ``accuracy`` (0..1) of logits [N, K] for labels int [N], N ≥ 1."""
    right = np.asarray(logits).argmax(axis=1) == labels
    return {"log_loss": float(log_losses(logits, labels).mean()), "accuracy": float(right.mean())}


def ranked(scores: np.ndarray, top: int | None = None) -> np.ndarray:
    """The classes int64 [..., top] of scores [..., K], the best first; all of them without ``top``.

    Of equal scores the lower class number comes first, as ``argmax`` has it, and ``top_k`` in every exported graph.
    """
    return np.argsort(-np.asarray(scores), axis=-1, kind="stable")[..., :top]


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in 0.05..20 that minimises the log loss of logits [N, K] with labels int [N].

    Labels are smoothed by two images more, whose labels are spread over all classes: without, any margin however small
    would be called certain where all of a few images are right. 1.0 when there is nothing to fit on, or when no other
    temperature does better.

    Raises:
        DataError: logits and labels that do not fit each other, or logits that are not finite.
    """
    import scipy.optimize

    wide, labels = check_scores(logits, labels, "logits")
    if not len(labels):
        return 1.0
    wide = wide - wide.max(axis=1, keepdims=True)
    undecided = _UNDECIDED_IMAGES / (len(labels) + _UNDECIDED_IMAGES)
    chosen = (1 - undecided) * wide[np.arange(len(labels)), labels] + undecided * wide.mean(axis=1)

    def log_loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(wide * scale).sum(axis=1)) - chosen * scale))

    low, high = np.log(TEMPERATURE_RANGE)
    # The loss is convex in 1 / T, so it has one valley in log T too.
    found = scipy.optimize.minimize_scalar(log_loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    if found.fun >= log_loss(0.0):
        return 1.0
    return float(np.clip(np.exp(found.x), *TEMPERATURE_RANGE))


def temperature_warning(temperature: float) -> str:
    """What to say of a fitted temperature that ended at a bound; nothing otherwise."""
    low, high = TEMPERATURE_RANGE
    if temperature <= 1.001 * low:
        return f"warning: the temperature ended at its lower bound, {low:g}: probabilities may be too high"
    if temperature >= 0.999 * high:
        return f"warning: the temperature ended at its upper bound, {high:g}: the head can hardly tell these photos"
    return ""


def check_scores(scores: np.ndarray, labels: np.ndarray, noun: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 [N, K] and labels as int64 [N]; ``noun`` names the scores in errors.

    Raises:
        DataError: shapes that do not match, scores that are not finite, labels outside 0..K-1.
    """
    wide, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if wide.ndim != 2 or labels.shape != wide.shape[:1] or wide.shape[1] == 0:
        raise DataError(f"{noun} must be [N, K] and labels [N]", received=f"shapes {wide.shape} and {labels.shape}")
    if not np.isfinite(wide).all():
        raise DataError(f"{noun} must be finite", received=f"{int((~np.isfinite(wide)).sum())} NaN or infinite values")
    if len(labels) and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= wide.shape[1]):
        raise DataError(
            f"labels must be whole numbers in 0..{wide.shape[1] - 1}",
            received=f"{labels.dtype} in {labels.min()}..{labels.max()}",
        )
    return wide, labels.astype(np.int64)
