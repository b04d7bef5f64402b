"""Fine-tuning: it starts from the trained head, can be killed at any step, and must earn its keep on validation.

Frozen or fine-tuned: the validation photos decide, and the frozen classifier has the benefit of the doubt.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.loop import Loop, interruption
from tlkeras.fine_tuning.start import Start
from tlkeras.heads.logits import fit_temperature, log_losses
from tlkeras.progress import Reporter
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network

# Within the folder of the state: where that of the second course is kept.
REFIT_FOLDER = "refit"
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


@dataclass(frozen=True)
class FineTuning:
    """What came of fine-tuning.

    classifier: the fine-tuned one with its temperature, or None where the frozen one is kept.
    logits: what it says of the validation photos, float32 ``[M, K]``, or None; where it was refitted, what the network
    said that had not seen them.
    history: a row for each epoch: ``epoch`` from 1, ``loss`` (training, nats), ``log_loss`` (validation, nats) and
    ``accuracy`` (validation, 0..1), both also as ``averaged_log_loss`` and ``averaged_accuracy`` of the averaged
    weights (None without), ``learning_rate`` of its last step, ``blocks`` that learned, ``seconds``.
    stopped: ``""``, ``early`` (patience) or ``not finite`` (loss). augmentation: the preset's name.
    refit: rows as in ``history``, of the course over train and validation together, on which nothing is measured.
    steps, seconds: of both.
    """

    classifier: TrainedClassifier | None
    contest: Contest
    logits: np.ndarray | None
    history: tuple[dict[str, Any], ...] = ()
    stopped: str = ""
    augmentation: str = "off"
    steps: int = 0
    seconds: float = 0.0
    refit: tuple[dict[str, Any], ...] = ()

    @property
    def kept_frozen(self) -> bool:
        """Whether the frozen classifier is kept."""
        return self.classifier is None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``fine_tuning.json`` of a run holds them."""
        return {
            "kept": FROZEN if self.kept_frozen else "fine-tuned",
            "reason": self.contest.reason,
            "stopped": self.stopped,
            "augmentation": self.augmentation,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "contest": asdict(self.contest),
            "epochs": list(self.history),
            "refit": list(self.refit),
        }


def fine_tune(
    start: Start,
    config: FineTuneConfig,
    *,
    reporter: Reporter,
    folder: Path | None = None,
    how_to_resume: str = "",
) -> FineTuning:
    """Train the network of a classifier on, and decide on validation whether that was worth it.

    ``folder``: keeps the state, from which the same call goes on where it was stopped; without one, nothing is kept.
    ``how_to_resume``: words for the line that an interruption ends with.

    Raises: InterruptedRunError after Ctrl-C or SIGTERM, the state being saved; OutOfMemoryError; DataError when
    the photos are not those that the state was saved with; ConfigError, ImageError, StorageError.
    """
    labels = start.validation.labels
    if not len(start.train) or not len(labels):
        return FineTuning(None, contest(start.frozen_logits, {}, labels), None)
    config = start.settled(config)
    with tempfile.TemporaryDirectory(prefix="tlkeras-") as scratch:
        home = folder or Path(scratch)
        # Where nothing can be resumed, nothing is waited for.
        heeded = folder is not None
        loop = Loop(start, config, reporter, home)
        with interruption(heeded) as asked:
            loop.run(asked, how_to_resume)
        picks = loop.candidates()
        weights = {name: loop.weights_of(pick) for name, pick in picks.items()}
        logits = {name: loop.logits_of(rows) for name, rows in weights.items()}
        logits = {name: rows for name, rows in logits.items() if np.isfinite(rows).all()}
        result = contest(start.frozen_logits, logits, labels)
        found = FineTuning(
            None,
            result,
            logits.get(result.winner),
            tuple(loop.state.history),
            loop.state.stopped,
            config.augment,
            loop.state.step,
            loop.state.seconds,
        )
        if result.winner == FROZEN:
            return found
        kept = weights[result.winner]
        if config.refit:
            last = Loop(start.together(), config, reporter, home / REFIT_FOLDER, picks[result.winner])
            with interruption(heeded) as asked:
                last.run(asked, how_to_resume)
            found = replace(
                found, refit=tuple(last.state.history), steps=found.steps + last.state.step,
                seconds=found.seconds + last.state.seconds,
            )  # fmt: skip
            if not last.state.stopped:
                kept = last.weights_of(picks[result.winner])
    classifier = _classifier(start.described, kept, result.entry(result.winner).temperature)
    return replace(found, classifier=classifier)


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


def _classifier(described: ClassifierConfig, weights: Sequence[np.ndarray], temperature: float) -> TrainedClassifier:
    network = build_network(described)
    for variable, value in zip(network.weights, weights, strict=True):
        variable.assign(value)
    return TrainedClassifier.of_network(replace(described, temperature=temperature), network)
