"""Which of the measured networks to take: the quickest one that is not measurably worse than the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tlkeras.choosing.measure import Measured
from tlkeras.errors import DataError

RESAMPLES = 2000


@dataclass(frozen=True)
class Recommendation:
    """The network to take and the most accurate one, by name, and why in one sentence.

    ``difference`` and its 95 % ``interval``: accuracy of the most accurate less that of the recommended, in -1..1,
    over the same photos (paired bootstrap). ``front``: the networks than which none is both quicker and more
    accurate, quickest first.
    """

    name: str
    best: str
    difference: float
    interval: tuple[float, float]
    front: tuple[str, ...]
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "interval": list(self.interval), "front": list(self.front)}


def recommend(measured: Sequence[Measured], *, seed: int = 0) -> Recommendation:
    """Recommend one of the networks, which were measured on the same photos.

    Whose 95 % interval of the difference from the most accurate reaches 0 counts as equally accurate. Of those the
    quickest at batch 1 is taken.

    Raises: DataError without a network.
    """
    if not measured:
        raise DataError("a recommendation needs at least one measured network", received="none")
    best = max(measured, key=lambda m: (m.probe.accuracy, -m.ms[1]))
    as_good = [m for m in measured if paired_interval(best.probe.right, m.probe.right, seed=seed)[0] <= 0]
    taken = min(as_good, key=lambda m: (m.ms[1], m.parameters))
    interval = paired_interval(best.probe.right, taken.probe.right, seed=seed)
    difference = float(best.probe.right.mean() - taken.probe.right.mean())
    return Recommendation(
        name=taken.name,
        best=best.name,
        difference=difference,
        interval=interval,
        front=pareto(measured),
        sentence=_sentence(taken, best, difference, interval, len(measured)),
    )


def paired_interval(one: np.ndarray, other: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """95 % interval, in -1..1, of the accuracy of ``one`` less that of ``other``, both bool [N] on the same photos.

    Percentile bootstrap over photos. Only photos on which exactly one is right count, so a resample is two binomial
    numbers.
    """
    count = len(one)
    gains, losses = int((one & ~other).sum()), int((other & ~one).sum())
    if not gains + losses:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, [gains / count, losses / count, 1 - (gains + losses) / count], size=RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / count, [0.025, 0.975])
    return float(low), float(high)


def pareto(measured: Sequence[Measured]) -> tuple[str, ...]:
    """Names of the networks that no other beats in both time (batch 1) and accuracy, quickest first."""
    front: list[Measured] = []
    for m in sorted(measured, key=lambda m: (m.ms[1], -m.probe.accuracy)):
        if not front or m.probe.accuracy > front[-1].probe.accuracy:
            front.append(m)
    return tuple(m.name for m in front)


def _sentence(taken: Measured, best: Measured, difference: float, interval: tuple[float, float], networks: int) -> str:
    low, high = taken.probe.interval
    accuracy = f"{100 * taken.probe.accuracy:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f})"
    what = f"{accuracy}, {taken.ms[1]:.1f} ms an image"
    if networks == 1:
        return f"{taken.name} is the only network that was measured: {what}."
    if taken is best:
        return f"Take {taken.name}: {what}; no quicker network comes within the noise of its accuracy."
    slower = best.ms[1] / taken.ms[1]
    if difference == 0:
        return f"Take {taken.name}: {what}; as accurate as {best.name}, which takes {slower:.1f} times as long."
    return (
        f"Take {taken.name}: {what}; {best.name} gets {100 * difference:.1f} points more "
        f"(95 %: {100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}), which is within the noise of these photos, "
        f"and takes {slower:.1f} times as long."
    )
