"""Fine-tuning: it starts from the trained head, can be killed at any step, and must earn its keep on validation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import backbones
from tlkeras.progress import Reporter
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network
from tlkeras.training.contest import FROZEN, Contest, contest, to_json
from tlkeras.training.fine_tune_config import FineTuneConfig
from tlkeras.training.interruption import Interruption
from tlkeras.training.loop import Loop
from tlkeras.training.start import Start


@dataclass(frozen=True)
class FineTuning:
    """What came of fine-tuning.

    classifier: the fine-tuned one with its temperature, or None where the frozen one is kept.
    logits: what it says of the validation photos, float32 ``[M, K]``, or None.
    history: a row for each epoch: ``epoch`` from 1, ``loss`` (training, nats), ``log_loss`` (validation, nats) and
    ``accuracy`` (validation, 0..1), both also as ``averaged_log_loss`` and ``averaged_accuracy`` of the averaged
    weights (None without), ``learning_rate`` of its last step, ``blocks`` that learned, ``seconds``.
    stopped: ``""``, ``early`` (patience) or ``not finite`` (loss). augmentation: the preset's name.
    """

    classifier: TrainedClassifier | None
    contest: Contest
    logits: np.ndarray | None
    history: tuple[dict[str, Any], ...] = ()
    stopped: str = ""
    augmentation: str = "off"
    steps: int = 0
    seconds: float = 0.0

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
        loop = Loop(start, config, reporter, folder or Path(scratch))
        # Where nothing can be resumed, nothing is waited for.
        with Interruption(heeded=folder is not None) as interruption:
            loop.run(interruption, how_to_resume)
        candidates = loop.candidates()
        logits = {name: loop.logits_of(weights) for name, weights in candidates.items()}
    logits = {name: rows for name, rows in logits.items() if np.isfinite(rows).all()}
    result = contest(start.frozen_logits, logits, labels)
    classifier = None
    if result.winner != FROZEN:
        temperature = result.entry(result.winner).temperature
        classifier = _classifier(start.described, candidates[result.winner], temperature)
    return FineTuning(
        classifier,
        result,
        logits.get(result.winner),
        tuple(loop.state.history),
        loop.state.stopped,
        config.augment,
        loop.state.step,
        loop.state.seconds,
    )


def _classifier(described: ClassifierConfig, weights: Sequence[np.ndarray], temperature: float) -> TrainedClassifier:
    network = build_network(described)
    for variable, value in zip(network.weights, weights, strict=True):
        variable.assign(value)
    backbone = network.get_layer("backbone")
    backbone.trainable = False
    # Its own hash: stored features of the pretrained network are not those of this one.
    sha256 = backbones.weights_sha256(backbone)
    return TrainedClassifier(replace(described, temperature=temperature, backbone_sha256=sha256), network)
