"""The loop of fine-tuning: steps, epochs, and a state that is saved on the way."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import DataError, InterruptedRunError
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.start import Start
from tlkeras.fine_tuning.state import AVERAGED, LAST, RAW, TuningState, WeightsChoice, load_weights, save_weights
from tlkeras.fine_tuning.tuner import Tuner, ema_decay, rate_at
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.logits import log_losses
from tlkeras.heads.search import fit_linear
from tlkeras.progress import Reporter

EARLY, NOT_FINITE = "early", "not finite"
# How far a ``blend`` goes from the start to the fine-tuned weights.
SHARES = (0.25, 0.5, 0.75, 1.0)
# What stands for a log loss that is no number: JSON has no infinity.
HOPELESS_NATS = 1e9


@contextlib.contextmanager
def interruption(heeded: bool) -> Iterator[threading.Event]:
    """Within the block, the first Ctrl-C or SIGTERM only sets the event; a second one acts as it did before.

    Nothing changes when it is not ``heeded``, nor outside of the main thread, where Python allows no handlers.
    """
    asked = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def note(*_: Any) -> None:
        asked.set()
        restore()

    if heeded and threading.current_thread() is threading.main_thread():
        before.update({number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)})
    try:
        yield asked
    finally:
        restore()


class Loop:
    """Fine-tuning under settled options (``Start.settled``), from the state in ``folder`` where there is one.

    ``pick``: nothing is measured, the course is run as far as the weights of this pick need it, and they are kept.

    Raises: DataError when the photos are not those that the state was saved with; ConfigError, ImageError,
    StorageError.
    """

    def __init__(
        self, start: Start, config: FineTuneConfig, reporter: Reporter, folder: Path, pick: WeightsChoice | None = None
    ) -> None:
        self.config = config
        self.pick = pick
        self.reporter = reporter
        self.folder = folder
        self.labels = start.validation.labels
        self.start = start
        self._plain: np.ndarray | None = None
        self.state = TuningState(start.fingerprint(config, pick))
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
        self.steps = config.epochs * self.batches.steps_per_epoch  # of the schedule
        self.stop = self.steps if pick is None else pick.epoch * self.batches.steps_per_epoch

    def run(self, asked: threading.Event, how_to_resume: str) -> None:
        """Go on until the last epoch, patience or a loss that is no number ends it.

        Raises: InterruptedRunError when that was asked for, the state being saved; OutOfMemoryError, StorageError.
        """
        state = self.state
        if state.stopped or state.step >= self.stop:
            return
        if state.step:
            self.reporter.say(f"   resume  from step {state.step:,} of {self.stop:,}")
        clock = saved = time.perf_counter()
        batches = self.batches.from_step(state.step, self.stop)
        with self.reporter.step("fine-tune" if self.pick is None else "refit", "steps") as progress:
            while state.step < self.stop and not state.stopped:
                epoch = state.step // self.batches.steps_per_epoch
                loss = self.tuner.step(
                    *next(batches),
                    rate=rate_at(state.step, self.steps, self.config),
                    decay=ema_decay(state.step, self.config),
                )
                if not math.isfinite(loss):
                    self._not_finite(epoch)
                    return
                state.step += 1
                state.loss_sum += loss
                progress(state.step, self.stop)
                ended = state.step % self.batches.steps_per_epoch == 0
                if ended:
                    self._end_epoch(epoch)
                now = time.perf_counter()
                state.seconds += now - clock
                clock = now
                if ended:
                    state.history[-1]["seconds"] = round(state.seconds - sum(r["seconds"] for r in state.history), 3)
                if ended or asked.is_set() or now - saved >= self.config.save_seconds:
                    state.save(self.folder, [variable.numpy() for variable in self.tuner.state])
                    saved = time.perf_counter()
                if asked.is_set():
                    words = f"interrupted after step {state.step:,} of {self.stop:,} and saved"
                    raise InterruptedRunError(words, next_step=how_to_resume)

    def logits_of(self, weights: Sequence[np.ndarray]) -> np.ndarray:
        """Logits float32 ``[M, K]`` of weights on validation; the network is left with them."""
        self.tuner.set_weights(weights)
        return self.tuner.logits(self.validation)

    def candidates(self) -> dict[str, WeightsChoice]:
        """What may win, by name, once ``run`` is done.

        ``last`` epoch, ``averaged`` (EMA) after it, and ``blend``: some way from the start to the averaged (or last)
        weights, with a linear head fitted anew. What is not refitted may also be what was best on validation: the
        ``best`` epoch, the best of the ``averaged`` weights. In another course those epochs would be no better than
        others.
        """
        last = len(self.state.history)
        if not last:
            return {}
        found = {"last": WeightsChoice(RAW, last)}
        if self.config.ema:
            found["averaged"] = WeightsChoice(AVERAGED, last)
        if not self.config.refit:
            found["best"] = WeightsChoice(RAW, self.state.kept[RAW][0]["epoch"])
            if self.config.ema:
                found["averaged"] = WeightsChoice(AVERAGED, self.state.kept[AVERAGED][0]["epoch"])
        if self.start.strength is not None:
            end = found.get("averaged", found["last"])
            found |= {f"blend {share:g}": replace(end, share=share, new_head=True) for share in SHARES}
        return found

    def weights_of(self, pick: WeightsChoice) -> list[np.ndarray]:
        """The weights of one of ``candidates``, or of the pick that this loop was made for."""
        rows = (*self.state.kept[pick.kind], *self.state.kept[LAST[pick.kind]])
        files = {row["epoch"]: row["file"] for row in rows}
        weights = pick.blend(self.start.weights, load_weights(self.folder, files[pick.epoch]))
        return self._with_new_head(weights) if pick.new_head else weights

    def _with_new_head(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        """The same with a linear head that is fitted to the training photos as the frozen classifier's was.

        It costs one pass over the photos without changes. The weights half way were never trained together; the head
        half way between both ends does not fit their features, while one that is fitted to them often beats either.
        """
        start = self.start
        assert start.strength is not None
        if self._plain is None:
            self._plain = start.train.squares(start.described.size_px, start.described.fit, self.reporter)
        self.tuner.set_weights(weights)
        features = unit_rows(self.tuner.features(self._plain))
        classes = len(start.described.class_names)
        head = fit_linear(features, start.train.labels, classes, start.strength)
        return [*weights[:-2], head.weights, head.bias]

    def _not_finite(self, epoch: int) -> None:
        """The weights are spoilt; what was kept after earlier epochs is not."""
        self.state.stopped = NOT_FINITE
        kept = f"what epoch {epoch} left is used" if epoch else "no epoch was finished"
        self.reporter.say(
            f"the training loss is not finite in step {self.state.step + 1:,} (epoch {epoch + 1}): fine-tuning stops, "
            f"{kept}. Try a --learning-rate below {self.config.learning_rate:g}."
        )

    def _end_epoch(self, epoch: int) -> None:
        state, config = self.state, self.config
        weights = {RAW: self.tuner.weights}
        if config.ema:
            weights[AVERAGED] = self.tuner.averages
        measured: dict[str, tuple[float | None, float | None]] = {}
        for kind in (AVERAGED, RAW):
            measured[kind] = (None, None)
            if kind in weights and self.pick is None:
                measured[kind] = log_loss, _ = self._measured(self.logits_of(weights[kind]))
                self._keep(kind, epoch + 1, log_loss, weights[kind])
            elif self.pick is not None and kind == self.pick.kind and epoch + 1 == self.pick.epoch:
                file = save_weights(self.folder, f"{epoch + 1:04d}-{kind}", weights[kind])
                state.kept[kind].append({"epoch": epoch + 1, "file": file})
        self.tuner.set_weights(weights[RAW])
        if self.pick is None:
            self._judge(epoch, weights, [log_loss for log_loss, _ in measured.values() if log_loss is not None])
        state.history.append(
            {
                "epoch": epoch + 1,
                "loss": state.loss_sum / self.batches.steps_per_epoch,
                "log_loss": measured[RAW][0],
                "accuracy": measured[RAW][1],
                "averaged_log_loss": measured[AVERAGED][0],
                "averaged_accuracy": measured[AVERAGED][1],
                "learning_rate": rate_at(state.step - 1, self.steps, config),
                "blocks": self.tuner.learning_count,
                "seconds": 0.0,
            }
        )
        state.loss_sum = 0.0

    def _judge(self, epoch: int, weights: Mapping[str, list[np.ndarray]], log_losses: Sequence[float]) -> None:
        """Keep the last weights, and stop when nothing has become better for long."""
        state = self.state
        for kind, arrays in weights.items():
            kept = [row["file"] for row in state.kept[kind] if row["epoch"] == epoch + 1]
            file = kept[0] if kept else save_weights(self.folder, f"{epoch + 1:04d}-{kind}", arrays)
            state.kept[LAST[kind]] = [{"epoch": epoch + 1, "file": file}]
        best = min(log_losses)
        if state.best_log_loss is None or best < state.best_log_loss:
            state.best_log_loss, state.stale_epochs = best, 0
        else:
            state.stale_epochs += 1
        if self.config.patience and state.stale_epochs >= self.config.patience:
            state.stopped = EARLY

    def _measured(self, logits: np.ndarray) -> tuple[float, float]:
        losses = log_losses(logits, self.labels)
        log_loss = float(losses.mean()) if np.isfinite(losses).all() else HOPELESS_NATS
        return log_loss, float((logits.argmax(axis=1) == self.labels).mean())

    def _keep(self, kind: str, epoch: int, log_loss: float, weights: Sequence[np.ndarray]) -> None:
        """Keep an epoch's weights while they are the best of their kind, the earliest of equals."""
        kept = self.state.kept[kind]
        if not kept or log_loss < kept[0]["log_loss"]:
            file = save_weights(self.folder, f"{epoch:04d}-{kind}", weights)
            self.state.kept[kind] = [{"epoch": epoch, "log_loss": log_loss, "file": file}]
