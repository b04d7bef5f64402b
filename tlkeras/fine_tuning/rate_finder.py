"""The learning-rate range test (Smith 2017, "Cyclical Learning Rates for Training Neural Networks")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import ConfigError
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.start import Start
from tlkeras.fine_tuning.tuner import Tuner
from tlkeras.images.arrays import figure_bytes
from tlkeras.progress import Reporter
from tlkeras.storage import staged_folder, write_bytes, write_json

STEPS = 80
LOWEST = 1e-6
DECADES = 6
# The smoothed loss remembers this much of its past a step.
_MEMORY = 0.9
# Where the smoothed loss is so much above its lowest, training has gone wrong, and the test may end.
_EDGE, _END = 1.1, 3.0


@dataclass(frozen=True)
class FoundRate:
    """The outcome: ``rate`` is a tenth of ``edge``, the rate from which on the loss rises for good.

    rates, losses, smoothed: a number for each step; losses in nats. folder: where plot and figures lie.
    """

    folder: Path
    rate: float
    edge: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``rate_finder.json`` holds them."""
        return {**asdict(self), "folder": str(self.folder)}


def find_rate(start: Start, config: FineTuneConfig, reporter: Reporter) -> FoundRate:
    """Train the network of ``start`` with a rate that grows from step to step; the weights are thrown away.

    ``folder`` of what is returned is empty; see ``write_rate``.

    Raises: ConfigError when not even the lowest rates gave a finite loss; ImageError, StorageError; OutOfMemoryError.
    """
    config = start.settled(replace(config, ema=0.0))
    tuner = Tuner(start.described, start.weights, config, start.seed)
    batches = start.batches(config, reporter)
    rates: list[float] = []
    losses: list[float] = []
    with reporter.step("find rate", "steps") as progress:
        for step, (pixels, targets) in enumerate(batches.from_step(0, STEPS)):
            rate = LOWEST * 10 ** (DECADES * step / (STEPS - 1))
            loss = tuner.step(pixels, targets, rate=rate, decay=0.0)
            progress(step + 1, STEPS)
            if not math.isfinite(loss):
                break
            rates.append(rate)
            losses.append(loss)
            smoothed = smooth(losses)
            if smoothed[-1] > _END * min(smoothed):
                break
    return suggested(rates, losses)


def write_rate(found: FoundRate, folder: Path) -> FoundRate:
    """Make the folder with ``rate_finder.json`` and ``rate_finder.png``; returns the same with its folder.

    Raises: StorageError when the disk refuses.
    """
    found = replace(found, folder=folder)
    with staged_folder(folder) as staged:
        write_json(staged / "rate_finder.json", found.to_json())
        write_bytes(staged / "rate_finder.png", figure_bytes(plot(found)))
    return found


def smooth(losses: Sequence[float]) -> np.ndarray:
    """The moving average of losses, corrected for its start: float64, as long as they are."""
    average = 0.0
    rows = []
    for count, loss in enumerate(losses, start=1):
        average = _MEMORY * average + (1 - _MEMORY) * loss
        rows.append(average / (1 - _MEMORY**count))
    return np.array(rows)


def suggested(rates: Sequence[float], losses: Sequence[float]) -> FoundRate:
    """The rate that a curve speaks for; ``folder`` is empty.

    Raises: ConfigError when not even the lowest rates gave a finite loss.
    """
    if not len(rates):
        raise ConfigError("no rate gave a finite loss", next_step="Look at the photos and the weights of the network.")
    smoothed = smooth(losses)
    # The last place that is not clearly above the lowest: noise before it does not count.
    fine = np.flatnonzero(smoothed <= _EDGE * smoothed.min())
    edge = rates[int(fine[-1])]
    return FoundRate(Path(), edge / 10, edge, tuple(rates), tuple(losses), tuple(smoothed.tolist()))


def plot(found: FoundRate) -> Any:
    """Loss over rate, with the edge and what is suggested, as a Matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color="0.75", linewidth=1, label="each step")
    axes.plot(found.rates, found.smoothed, color="tab:blue", linewidth=2, label="smoothed")
    axes.axvline(found.edge, color="tab:red", linestyle=":", label=f"edge {found.edge:.1e}")
    axes.axvline(found.rate, color="tab:green", linestyle="--", label=f"suggested {found.rate:.1e}")
    axes.set_xscale("log")
    low = min(found.smoothed)
    axes.set_ylim(0, max(2.5 * low, 1.3 * found.smoothed[0]))
    axes.set_xlabel("learning rate of head and last block")
    axes.set_ylabel("training loss, nats")
    axes.legend(loc="upper left")
    return figure
