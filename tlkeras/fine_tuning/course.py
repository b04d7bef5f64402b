"""Fine-tuning: it starts from the trained head, can be killed at any step, and must earn its keep on validation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.contest import FROZEN, Contest, contest, to_json
from tlkeras.fine_tuning.loop import Interruption, Loop
from tlkeras.fine_tuning.start import Start
from tlkeras.progress import Reporter
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network

# Within the folder of the state: where that of the second course is kept.
REFIT_FOLDER = "refit"


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
            "contest": to_json(self.contest),
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
        with Interruption(heeded=heeded) as interruption:
            loop.run(interruption, how_to_resume)
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
            with Interruption(heeded=heeded) as interruption:
                last.run(interruption, how_to_resume)
            found = replace(
                found, refit=tuple(last.state.history), steps=found.steps + last.state.step,
                seconds=found.seconds + last.state.seconds,
            )  # fmt: skip
            if not last.state.stopped:
                kept = last.weights_of(picks[result.winner])
    classifier = _classifier(start.described, kept, result.entry(result.winner).temperature)
    return replace(found, classifier=classifier)


def _classifier(described: ClassifierConfig, weights: Sequence[np.ndarray], temperature: float) -> TrainedClassifier:
    network = build_network(described)
    for variable, value in zip(network.weights, weights, strict=True):
        variable.assign(value)
    return TrainedClassifier.of_network(replace(described, temperature=temperature), network)
