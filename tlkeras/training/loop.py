"""The loop of fine-tuning: steps, epochs, and a state that is saved on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlkeras.errors import DataError, InterruptedRunError
from tlkeras.progress import Reporter
from tlkeras.training.contest import log_losses
from tlkeras.training.fine_tune_config import FineTuneConfig
from tlkeras.training.interruption import Interruption
from tlkeras.training.schedules import ema_decay, rate_at, unfrozen_blocks
from tlkeras.training.start import Start
from tlkeras.training.state import TuningState, load_weights, save_weights
from tlkeras.training.tuner import Tuner

EARLY, NOT_FINITE = "early", "not finite"
# What stands for a log loss that is no number: JSON has no infinity.
HOPELESS_NATS = 1e9


class Loop:
    """Fine-tuning under settled options (``Start.settled``), from the state in ``folder`` where there is one.

    Raises: DataError when the photos are not those that the state was saved with; ConfigError, ImageError,
    StorageError.
    """

    def __init__(self, start: Start, config: FineTuneConfig, reporter: Reporter, folder: Path) -> None:
        self.config = config
        self.reporter = reporter
        self.folder = folder
        self.labels = start.validation.labels
        self.state = TuningState(start.fingerprint(config))
        saved = TuningState.load(folder)
        if saved is not None and saved[0].fingerprint != self.state.fingerprint:
            raise DataError(
                "a run is resumed with the photos that it began with; some are new, gone or changed",
                next_step=f"Put them back, or delete '{folder}' and train again.",
            )
        self.tuner = Tuner(start.described, start.weights, config, start.seed)
        if saved is not None:
            self.state, arrays = saved
            for variable, value in zip(self.tuner.state, arrays, strict=True):
                variable.assign(value)
        self.batches = start.batches(config, reporter)
        self.validation = start.validation.squares(start.described.size_px, start.described.fit, reporter)
        self.steps = config.epochs * self.batches.steps_per_epoch

    def run(self, interruption: Interruption, how_to_resume: str) -> None:
        """Go on until the last epoch, patience or a loss that is no number ends it.

        Raises: InterruptedRunError when that was asked for, the state being saved; OutOfMemoryError, StorageError.
        """
        state = self.state
        if state.stopped or state.step >= self.steps:
            return
        if state.step:
            self.reporter.say(f"   resume  from step {state.step:,} of {self.steps:,}")
        clock = saved = time.perf_counter()
        batches = self.batches.from_step(state.step, self.steps)
        with self.reporter.step("fine-tune", "steps") as progress:
            while state.step < self.steps and not state.stopped:
                epoch = state.step // self.batches.steps_per_epoch
                loss = self.tuner.step(
                    *next(batches),
                    block_count=unfrozen_blocks(epoch, self.tuner.block_count, self.config),
                    rate=rate_at(state.step, self.steps, self.config),
                    decay=ema_decay(state.step, self.config),
                )
                if not math.isfinite(loss):
                    self._not_finite(epoch)
                    return
                state.step += 1
                state.loss_sum += loss
                progress(state.step, self.steps)
                ended = state.step % self.batches.steps_per_epoch == 0
                if ended:
                    self._end_epoch(epoch)
                now = time.perf_counter()
                state.seconds += now - clock
                clock = now
                if ended:
                    state.history[-1]["seconds"] = round(state.seconds - sum(r["seconds"] for r in state.history), 3)
                if ended or interruption.asked or now - saved >= self.config.save_seconds:
                    state.save(self.folder, [variable.numpy() for variable in self.tuner.state])
                    saved = time.perf_counter()
                if interruption.asked:
                    words = f"interrupted after step {state.step:,} of {self.steps:,} and saved"
                    raise InterruptedRunError(words, next_step=how_to_resume)

    def logits_of(self, weights: Sequence[np.ndarray]) -> np.ndarray:
        """Logits float32 ``[M, K]`` of weights on validation; the network is left with them."""
        self.tuner.set_weights(weights)
        return self.tuner.logits(self.validation)

    def candidates(self) -> dict[str, list[np.ndarray]]:
        """The weights that may win, by name, once ``run`` is done.

        ``best`` epoch, ``averaged`` (EMA, its best epoch), ``soup`` (mean of the best epochs), and ``last`` epoch
        where that is another than the best.
        """
        state = self.state
        raw = [load_weights(self.folder, row["file"]) for row in state.kept["raw"]]
        if not raw:
            return {}
        found = {"best": raw[0]}
        if state.kept["averaged"]:
            found["averaged"] = load_weights(self.folder, state.kept["averaged"][0]["file"])
        if self.config.soup > 1 and len(raw) > 1:
            found["soup"] = [_mean(parts) for parts in zip(*raw, strict=True)]
        saved = TuningState.load(self.folder)
        if saved is not None and state.stopped != NOT_FINITE and state.kept["raw"][0]["epoch"] != len(state.history):
            arrays = {id(variable): array for variable, array in zip(self.tuner.state, saved[1], strict=True)}
            found["last"] = [arrays[id(variable)] for variable in self.tuner.network.weights]
        return found

    def _not_finite(self, epoch: int) -> None:
        """The weights are spoilt; what was kept after earlier epochs is not."""
        self.state.stopped = NOT_FINITE
        kept = f"what epoch {epoch} left is used" if epoch else "no epoch was finished"
        self.reporter.say(
            f"the training loss is not finite in step {self.state.step + 1:,} (epoch {epoch + 1}): fine-tuning stops, "
            f"{kept}. Try a --learning-rate below {self.config.rate:g}."
        )

    def _end_epoch(self, epoch: int) -> None:
        state, config = self.state, self.config
        raw = self.tuner.weights
        measured: dict[str, tuple[float, float]] = {}
        for kind, weights in (("averaged", self.tuner.averages if config.ema else None), ("raw", raw)):
            if weights is not None:
                measured[kind] = self._measured(self.logits_of(weights))
                self._keep(kind, epoch + 1, measured[kind][0], weights)
        best = min(log_loss for log_loss, _ in measured.values())
        if state.best_log_loss is None or best < state.best_log_loss:
            state.best_log_loss, state.stale_epochs = best, 0
        else:
            state.stale_epochs += 1
        averaged = measured.get("averaged", (None, None))
        state.history.append(
            {
                "epoch": epoch + 1,
                "loss": state.loss_sum / self.batches.steps_per_epoch,
                "log_loss": measured["raw"][0],
                "accuracy": measured["raw"][1],
                "averaged_log_loss": averaged[0],
                "averaged_accuracy": averaged[1],
                "learning_rate": rate_at(state.step - 1, self.steps, config),
                "blocks": unfrozen_blocks(epoch, self.tuner.block_count, config),
                "seconds": 0.0,
            }
        )
        state.loss_sum = 0.0
        if config.patience and state.stale_epochs >= config.patience:
            state.stopped = EARLY

    def _measured(self, logits: np.ndarray) -> tuple[float, float]:
        losses = log_losses(logits, self.labels)
        log_loss = float(losses.mean()) if np.isfinite(losses).all() else HOPELESS_NATS
        return log_loss, float((logits.argmax(axis=1) == self.labels).mean())

    def _keep(self, kind: str, epoch: int, log_loss: float, weights: Sequence[np.ndarray]) -> None:
        """Keep an epoch's weights while they are among the best of their kind, the earliest of equals first."""
        rows = [*self.state.kept[kind], {"epoch": epoch, "log_loss": log_loss, "file": ""}]
        most = max(self.config.soup, 1) if kind == "raw" else 1
        ranked = sorted(rows, key=lambda row: row["log_loss"])[:most]
        for row in ranked:
            row["file"] = row["file"] or save_weights(self.folder, f"{epoch:04d}-{kind}", weights)
        self.state.kept[kind] = ranked


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    # What is the same in all stays as it is: the mean of equals may be rounded.
    if all(np.array_equal(parts[0], part) for part in parts[1:]):
        return parts[0]
    return np.asarray(np.mean(np.stack(parts), axis=0, dtype=np.float64), parts[0].dtype)
