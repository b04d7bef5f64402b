"""Fine-tuning, epoch by epoch: it starts from the trained head, can be killed at any step, and must earn its keep."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import backbones
from tlkeras.data.squares import squares
from tlkeras.data.verdicts import Verdict
from tlkeras.errors import DataError, Interrupted
from tlkeras.progress import Reporter
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network
from tlkeras.training.augment import preset
from tlkeras.training.batches import Batches, kept_side_px
from tlkeras.training.contest import FROZEN, Contest, contest, log_losses, to_json
from tlkeras.training.fine_tune_config import FineTuneConfig
from tlkeras.training.interruption import Interruption
from tlkeras.training.schedules import ema_decay, rate_at, unfrozen_blocks
from tlkeras.training.state import TuningState, load_weights, save_weights
from tlkeras.training.tuner import Tuner

EARLY, NOT_FINITE = "early", "not finite"


@dataclass(frozen=True)
class Photos:
    """Photos with their labels (int ``[N]``), as the audit has kept them."""

    verdicts: tuple[Verdict, ...]
    labels: np.ndarray

    def fingerprint(self) -> str:
        """A hash of contents and labels, in order."""
        digest = hashlib.sha256(np.asarray(self.labels, np.int64).tobytes())
        for verdict in self.verdicts:
            digest.update(verdict.sha256.encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class FineTuning:
    """What came of fine-tuning.

    classifier: the fine-tuned one with its temperature, or None where the frozen one is kept.
    logits: of the winner on validation, float32 ``[M, K]``, None with the frozen one.
    history: a row for each epoch: ``epoch`` from 1, ``loss`` (training, nats), ``log_loss`` (validation, nats) and
    ``accuracy`` (validation, 0..1), both also as ``averaged_log_loss`` and ``averaged_accuracy`` of the averaged
    weights (None without), ``learning_rate`` of its last step, ``blocks`` that learned, ``seconds``.
    stopped: ``""``, ``early`` or ``not finite``. augmentation: the preset's name.
    """

    classifier: TrainedClassifier | None
    contest: Contest
    logits: np.ndarray | None
    history: tuple[dict[str, Any], ...]
    stopped: str
    augmentation: str
    steps: int
    seconds: float

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
    described: ClassifierConfig,
    start: Sequence[np.ndarray],
    train: Photos,
    validation: Photos,
    frozen_logits: np.ndarray,
    config: FineTuneConfig,
    *,
    seed: int,
    reporter: Reporter,
    folder: Path | None = None,
    how_to_resume: str = "",
) -> FineTuning:
    """Train the network of a classifier on, and decide on validation whether that was worth it.

    ``described``, ``start``: the classifier and its network's weights, the head fitted on ``train`` alone.
    ``frozen_logits``: what the frozen classifier says of the validation photos, which it must not have seen either.
    ``folder``: keeps the state, from which the same call goes on where it was stopped; without one, nothing is kept.
    ``how_to_resume``: words for the line that an interruption ends with.

    Raises: Interrupted after Ctrl-C or SIGTERM, the state being saved; OutOfMemoryError; DataError when the photos are
    not those that the state was saved with; ConfigError, ImageError, StorageError.
    """
    if not len(train.labels) or not len(validation.labels):
        result = contest(frozen_logits, {}, validation.labels)
        result = replace(result, reason="there are no validation photos to judge fine-tuning by")
        return FineTuning(None, result, None, (), "", "off", 0, 0.0)
    with tempfile.TemporaryDirectory(prefix="tlkeras-") as scratch:
        loop = _Loop(described, start, train, validation, config, seed, reporter, folder or Path(scratch))
        # Where nothing can be resumed, nothing is waited for.
        with Interruption(heeded=folder is not None) as interruption:
            loop.run(interruption, how_to_resume)
        candidates = loop.candidates()
        logits = {name: loop.logits_of(weights) for name, weights in candidates.items()}
        logits = {name: rows for name, rows in logits.items() if np.isfinite(rows).all()}
        result = contest(frozen_logits, logits, validation.labels)
        state = loop.state
        classifier = None
        if result.winner != FROZEN:
            classifier = _classifier(described, candidates[result.winner], result.entry(result.winner).temperature)
        return FineTuning(
            classifier,
            result,
            logits.get(result.winner),
            tuple(state.history),
            state.stopped,
            loop.augmentation,
            state.step,
            state.seconds,
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


class _Loop:
    def __init__(
        self,
        described: ClassifierConfig,
        start: Sequence[np.ndarray],
        train: Photos,
        validation: Photos,
        config: FineTuneConfig,
        seed: int,
        reporter: Reporter,
        folder: Path,
    ) -> None:
        replicas = max(len(config.devices), 1)
        # A batch is never larger than the training set, and every device gets as much as the others.
        batch_size = max(min(config.batch_size, len(train.labels)) // replicas, 1) * replicas
        self.config = config = replace(config, batch_size=batch_size)
        self.augmentation, augmentation = preset(config.augment, len(train.labels))
        self.reporter = reporter
        self.folder = folder
        self.labels = validation.labels
        options = json.dumps([asdict(config), described.backbone_sha256, described.class_names, seed])
        fingerprint = hashlib.sha256(f"{train.fingerprint()} {validation.fingerprint()} {options}".encode()).hexdigest()
        self.state = TuningState(fingerprint)
        saved = TuningState.load(folder)
        if saved is not None and saved[0].fingerprint != fingerprint:
            raise DataError(
                "a run is resumed with the photos that it began with, and some are new, gone or changed",
                next_step=f"Put them back, or delete '{folder}' and train again.",
            )
        self.tuner = Tuner(described, start, config, seed)
        if saved is not None:
            self.state, arrays = saved
            for variable, value in zip(self.tuner.state, arrays, strict=True):
                variable.assign(value)
        side = kept_side_px(described.size_px, augmentation)
        with reporter.step("decode") as progress:
            everything = len(train.labels) + len(validation.labels)
            pixels = squares(
                train.verdicts, side, described.fit, progress=lambda done, total: progress(done, everything)
            )
            self.validation = squares(
                validation.verdicts,
                described.size_px,
                described.fit,
                progress=lambda done, total: progress(len(train.labels) + done, everything),
            )
        self.batches = Batches(
            pixels, train.labels, len(described.class_names), described.size_px, batch_size, augmentation, seed
        )
        self.steps = config.epochs * self.batches.steps_per_epoch

    def run(self, interruption: Interruption, how_to_resume: str) -> None:
        """Go on until the last epoch, patience or a loss that is no number ends it."""
        state, config, per_epoch = self.state, self.config, self.batches.steps_per_epoch
        if state.stopped or state.step >= self.steps:
            return
        if state.step:
            self.reporter.say(f"   resume  from step {state.step:,} of {self.steps:,}")
        clock = time.perf_counter()
        saved = clock
        batches = self.batches.from_step(state.step, self.steps)
        with self.reporter.step("fine-tune", "steps") as progress:
            while state.step < self.steps and not state.stopped:
                epoch = state.step // per_epoch
                loss = self.tuner.step(
                    *next(batches),
                    block_count=unfrozen_blocks(epoch, self.tuner.block_count, config),
                    rate=rate_at(state.step, self.steps, config),
                    decay=ema_decay(state.step, config),
                )
                if not math.isfinite(loss):
                    self._not_finite(epoch)
                    return
                state.step += 1
                state.loss_sum += loss
                state.loss_steps += 1
                progress(state.step, self.steps)
                ended = state.step % per_epoch == 0
                if ended:
                    state.seconds += time.perf_counter() - clock
                    clock = time.perf_counter()
                    self._end_epoch(epoch)
                if ended or interruption.asked or time.perf_counter() - saved >= config.save_seconds:
                    state.seconds += time.perf_counter() - clock
                    clock = saved = time.perf_counter()
                    state.save(self.folder, [variable.numpy() for variable in self.tuner.state])
                if interruption.asked:
                    raise Interrupted(
                        f"interrupted after step {state.step:,} of {self.steps:,} and saved", next_step=how_to_resume
                    )

    def _not_finite(self, epoch: int) -> None:
        """The weights are spoilt; what was kept after earlier epochs is not."""
        state = self.state
        state.stopped = NOT_FINITE
        kept = f"what epoch {epoch} left is used" if epoch else "no epoch was finished"
        self.reporter.say(
            f"the training loss is not finite in epoch {epoch + 1}, step {state.step + 1:,}: fine-tuning stops, {kept}. "
            f"Try a --learning-rate below {self.config.rate:g}."
        )

    def _end_epoch(self, epoch: int) -> None:
        state, config = self.state, self.config
        measured: dict[str, tuple[float, float]] = {}
        raw = self.tuner.weights
        for kind, weights in (("raw", raw), ("averaged", self.tuner.averages if config.ema else None)):
            if weights is not None:
                logits = self.logits_of(weights)
                measured[kind] = self._measure(logits)
                self._keep(kind, epoch, measured[kind][0], weights)
        self.tuner.set_weights(raw)
        best = min(log_loss for log_loss, _ in measured.values())
        if state.best_log_loss is None or best < state.best_log_loss:
            state.best_log_loss, state.stale_epochs = best, 0
        else:
            state.stale_epochs += 1
        spent = sum(row["seconds"] for row in state.history)
        state.history.append(
            {
                "epoch": epoch + 1,
                "loss": state.loss_sum / state.loss_steps,
                "log_loss": measured["raw"][0],
                "accuracy": measured["raw"][1],
                "averaged_log_loss": measured["averaged"][0] if config.ema else None,
                "averaged_accuracy": measured["averaged"][1] if config.ema else None,
                "learning_rate": rate_at(state.step - 1, self.steps, config),
                "blocks": unfrozen_blocks(epoch, self.tuner.block_count, config),
                "seconds": round(state.seconds - spent, 3),
            }
        )
        state.loss_sum, state.loss_steps = 0.0, 0
        if config.patience and state.stale_epochs >= config.patience:
            state.stopped = EARLY

    def _measure(self, logits: np.ndarray) -> tuple[float, float]:
        losses = log_losses(logits, self.labels)
        # Plain values that JSON can hold, whatever a diverging network says.
        log_loss = float(losses.mean()) if np.isfinite(losses).all() else 1e9
        return log_loss, float((logits.argmax(axis=1) == self.labels).mean())

    def _keep(self, kind: str, epoch: int, log_loss: float, weights: Sequence[np.ndarray]) -> None:
        """Keep an epoch's weights while they are among the best of their kind; the oldest of equals first."""
        rows = self.state.kept[kind]
        most = max(self.config.soup, 1) if kind == "raw" else 1
        ranked = sorted([*rows, {"epoch": epoch, "log_loss": log_loss}], key=lambda row: row["log_loss"])[:most]
        for row in ranked:
            if "file" not in row:
                row["file"] = save_weights(self.folder, f"{epoch + 1:04d}-{kind}", weights)
        self.state.kept[kind] = ranked

    def logits_of(self, weights: Sequence[np.ndarray]) -> np.ndarray:
        """Logits float32 ``[M, K]`` of weights on validation; the network is left with them."""
        self.tuner.set_weights(weights)
        return self.tuner.logits(self.validation)

    def candidates(self) -> dict[str, list[np.ndarray]]:
        """The weights that may win, by name: ``best``, ``averaged`` (EMA), ``soup`` and ``last``."""
        state = self.state
        raw = [load_weights(self.folder, row["file"]) for row in state.kept["raw"]]
        found: dict[str, list[np.ndarray]] = {}
        if raw:
            found["best"] = raw[0]
        if state.kept["averaged"]:
            found["averaged"] = load_weights(self.folder, state.kept["averaged"][0]["file"])
        if self.config.soup > 1 and len(raw) > 1:
            found["soup"] = [_mean(parts) for parts in zip(*raw, strict=True)]
        if raw and state.stopped != NOT_FINITE and state.kept["raw"][0]["epoch"] != len(state.history) - 1:
            count = len(self.tuner.network.weights)
            saved = TuningState.load(self.folder)
            # Network weights come first in the state; the evaluation of others has overwritten the network's own.
            found["last"] = _weights_of(self.tuner, saved[1]) if saved else raw[0][:count]
        return found


def _weights_of(tuner: Tuner, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    by_variable = {id(variable): array for variable, array in zip(tuner.state, arrays, strict=True)}
    return [by_variable[id(variable)] for variable in tuner.network.weights]


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    # What does not differ stays as it is: the mean of equals may be rounded.
    if all(np.array_equal(parts[0], part) for part in parts[1:]):
        return parts[0]
    return np.mean(np.stack(parts), axis=0, dtype=np.float64).astype(parts[0].dtype)
