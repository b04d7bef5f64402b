"""Confidence against accuracy: calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlkeras.errors import ConfigError
from tlkeras.heads.logits import check_scores, softmax


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
