"""Temperature and calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.special

from tlkeras.errors import ConfigError, DataError

TEMPERATURE_RANGE: tuple[float, float] = (0.05, 20.0)


@dataclass(frozen=True)
class Reliability:
    """The bars of a reliability plot, one entry per equal-width bin of confidence.

    ``edges`` float64 [bins + 1] in 0..1; ``counts`` int64 [bins]; ``confidence`` and ``accuracy`` float64 [bins] are
    the means within a bin, 0 where it is empty.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float32 [N, K] of logits [N, K] divided by a temperature; float64 inside, without overflow.

    Raises:
        ConfigError: a temperature that is not positive and finite.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ConfigError("a temperature must be positive and finite", received=temperature)
    wide = np.asarray(logits, np.float64) / temperature
    return np.asarray(scipy.special.softmax(wide, axis=-1), np.float32)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in 0.05..20 that minimises the log loss of logits [N, K] with labels int [N].

    1.0 when there is nothing to fit on, or when no other temperature does better.

    Raises:
        DataError: logits and labels that do not fit each other, or logits that are not finite.
    """
    wide, labels = check_scores(logits, labels, "logits")
    if not len(labels):
        return 1.0
    wide = wide - wide.max(axis=1, keepdims=True)
    chosen = wide[np.arange(len(labels)), labels]

    def log_loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(wide * scale).sum(axis=1)) - chosen * scale))

    low, high = np.log(TEMPERATURE_RANGE)
    # The loss is convex in 1 / T, so it has one valley in log T too.
    found = scipy.optimize.minimize_scalar(log_loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    if found.fun >= log_loss(0.0):
        return 1.0
    return float(np.clip(np.exp(found.x), *TEMPERATURE_RANGE))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Confidence against accuracy in equal-width bins, for probabilities [N, K] and labels int [N].

    Raises:
        ConfigError: fewer than one bin.
        DataError: probabilities and labels that do not fit each other.
    """
    if bins < 1:
        raise ConfigError("a reliability plot needs at least one bin", received=bins)
    wide, labels = check_scores(probabilities, labels, "probabilities")
    confidence = wide.max(axis=1)
    right = wide.argmax(axis=1) == labels
    # Bins are (low, high], as in the paper.
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    full = np.maximum(counts, 1)
    return Reliability(
        np.linspace(0.0, 1.0, bins + 1),
        counts,
        np.bincount(index, confidence, minlength=bins) / full,
        np.bincount(index, right, minlength=bins) / full,
    )


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance, 0..1, of confidence from accuracy over equal-width bins, weighted by their images.

    Raises as ``reliability``; 0 for no images.
    """
    bars = reliability(probabilities, labels, bins)
    return float(np.abs(bars.confidence - bars.accuracy) @ bars.counts / max(int(bars.counts.sum()), 1))


def reliability_record(
    probabilities: np.ndarray, labels: np.ndarray, temperature: float, bins: int = 15
) -> dict[str, object]:
    """The reliability of probabilities [N, K] before and after their temperature, as plain values for a file.

    ``probabilities`` are those after it: ``softmax(logits / temperature)``, from which the ones before follow.
    ``before`` and ``after`` hold the expected calibration error ``ece`` and ``bins`` that are not empty, each with
    ``low``, ``high``, ``images``, ``confidence`` and ``accuracy``.

    Raises as ``reliability``.
    """
    wide = np.asarray(probabilities, np.float64)
    logits = temperature * np.log(np.maximum(wide, np.finfo(np.float64).tiny))
    return {
        "images": len(labels),
        "temperature": temperature,
        "before": _plain_bars(softmax(logits), labels, bins),
        "after": _plain_bars(wide, labels, bins),
    }


def _plain_bars(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> dict[str, object]:
    bars = reliability(probabilities, labels, bins)
    return {
        "ece": expected_calibration_error(probabilities, labels, bins),
        "bins": [
            {
                "low": float(bars.edges[i]),
                "high": float(bars.edges[i + 1]),
                "images": int(bars.counts[i]),
                "confidence": float(bars.confidence[i]),
                "accuracy": float(bars.accuracy[i]),
            }
            for i in np.flatnonzero(bars.counts)
        ],
    }


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
