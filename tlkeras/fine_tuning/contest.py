"""Frozen or fine-tuned: the validation photos decide, and the frozen classifier has the benefit of the doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.heads.logits import fit_temperature, log_losses

FROZEN = "frozen"
# The mean gain must be so many standard errors above zero. The fine-tuned network was chosen among several by the
# same photos, which flatters it; but a hundred photos of which a few are wrong prove little, and asking for more hands
# most true gains back.
NEEDED_ERRORS = 1.0


@dataclass(frozen=True)
class Entry:
    """One classifier on the validation photos: accuracy in 0..1, log loss in nats at its own temperature."""

    name: str
    accuracy: float
    log_loss: float
    temperature: float


@dataclass(frozen=True)
class Contest:
    """How frozen and fine-tuned did, and who is kept.

    winner: ``frozen``, or the name of a fine-tuned entry. reason: why, in words.
    gain_nats: mean log loss of the frozen classifier minus that of the best fine-tuned entry; error_nats: the
    standard error of that mean over photos.
    """

    winner: str
    reason: str
    entries: tuple[Entry, ...]
    gain_nats: float
    error_nats: float
    images: int

    def entry(self, name: str) -> Entry:
        """The entry of that name."""
        return next(entry for entry in self.entries if entry.name == name)


def contest(frozen: np.ndarray, candidates: Mapping[str, np.ndarray], labels: np.ndarray) -> Contest:
    """Decide between logits float ``[N, K]`` of the same N validation photos, which no entry was trained on.

    Every entry gets its own temperature first. The candidate of the lowest log loss stands for fine-tuning. It is
    kept when, photo by photo, it lowers the log loss by more than ``NEEDED_ERRORS`` standard errors of that mean,
    and is not right less often than the frozen classifier by more than one standard error of that difference:
    accuracy alone is a coarse measure on few photos, log loss alone would trade right answers for confidence.
    """
    scored = {name: _scored(name, logits, labels) for name, logits in {FROZEN: frozen, **candidates}.items()}
    entries = tuple(entry for entry, _ in scored.values())
    images = len(labels)
    if images < 2 or not candidates:
        reason = "there are too few validation photos to tell" if candidates else "there is no fine-tuned network"
        return Contest(FROZEN, reason, entries, 0.0, 0.0, images)
    best = min(candidates, key=lambda name: scored[name][0].log_loss)
    gains = scored[FROZEN][1] - scored[best][1]
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(images))
    fewer = round((scored[FROZEN][0].accuracy - scored[best][0].accuracy) * images)
    measured = f"log loss {scored[FROZEN][0].log_loss:.4f} frozen, {scored[best][0].log_loss:.4f} fine-tuned"
    # Of photos that one has right and the other wrong, a coin would give each half.
    right = {name: logits.argmax(axis=1) == labels for name, logits in ((FROZEN, frozen), (best, candidates[best]))}
    if fewer > math.sqrt(np.count_nonzero(right[FROZEN] != right[best])):
        reason = f"fine-tuning gets {fewer} more of {images} validation photos wrong"
    elif gain <= NEEDED_ERRORS * error:
        reason = f"fine-tuning is not clearly better on {images} validation photos ({measured}, ±{error:.4f})"
    else:
        reason = f"fine-tuning is better on {images} validation photos ({measured}, ±{error:.4f})"
        return Contest(best, reason, entries, gain, error, images)
    return Contest(FROZEN, reason, entries, gain, error, images)


def _scored(name: str, logits: np.ndarray, labels: np.ndarray) -> tuple[Entry, np.ndarray]:
    temperature = fit_temperature(logits, labels)
    losses = log_losses(logits, labels, temperature)
    accuracy = float((logits.argmax(axis=1) == labels).mean()) if len(labels) else 0.0
    return Entry(name, accuracy, float(losses.mean()) if len(labels) else 0.0, temperature), losses


def to_json(result: Contest) -> dict[str, Any]:
    """Plain values for ``run.json``."""
    rows = [vars(entry) for entry in result.entries]
    return {**vars(result), "entries": rows}
