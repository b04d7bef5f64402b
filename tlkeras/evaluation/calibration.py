"""Confidence against accuracy: calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlkeras.errors import ConfigError
from tlkeras.heads.logits import check_scores


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

    @property
    def error(self) -> float:
        """The expected calibration error, 0..1: how far confidence is from accuracy, weighted by images; 0 for none."""
        return float(np.abs(self.confidence - self.accuracy) @ self.counts / max(int(self.counts.sum()), 1))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Confidence against accuracy in equal-width bins, for probabilities [N, K] and labels int [N].

    Raises:
        ConfigError: fewer than one bin.
        DataError: probabilities and labels that do not fit each other.
    """
    wide, labels = check_scores(probabilities, labels, "probabilities")
    return reliability_of(wide.max(axis=1), wide.argmax(axis=1) == labels, bins)


def reliability_of(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> Reliability:
    """The same from the probability of each image's predicted class, float64 [N], and whether it is right, bool [N].

    Raises:
        ConfigError: fewer than one bin.
    """
    if bins < 1:
        raise ConfigError("a reliability plot needs at least one bin", received=bins)
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
    return reliability(probabilities, labels, bins).error


def reliability_record(
    before: np.ndarray, after: np.ndarray, right: np.ndarray, temperature: float, bins: int = 15
) -> dict[str, object]:
    """The reliability before and after a temperature, as plain values for a file.

    ``before``, ``after``: float64 [N], the probability of each image's predicted class; ``right``: bool [N]. Each of
    the two holds the expected calibration error ``ece`` and ``bins`` that are not empty, with ``low``, ``high``,
    ``images``, ``confidence`` and ``accuracy``.

    Raises as ``reliability``.
    """
    return {
        "images": len(right),
        "temperature": temperature,
        "before": _plain_bars(reliability_of(before, right, bins)),
        "after": _plain_bars(reliability_of(after, right, bins)),
    }


def _plain_bars(bars: Reliability) -> dict[str, object]:
    return {
        "ece": bars.error,
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
