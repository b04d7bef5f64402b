"""Whether pretrained features are worth something on the data at hand, in figures and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tlkeras.choosing.measure import Measured
from tlkeras.choosing.recommend import paired_interval

# Share of the random twin's errors that pretraining takes away. Measured on breeds, flowers, steel and cats against
# dogs with networks that suit them: 0.6 to 0.99.
_WELL, _BADLY = 0.5, 0.15
# Nats per channel; see ``statistics_shift`` for what was measured.
_NEAR, _FAR = 0.04, 0.12
# A larger input is worth a try where photos have this many times the pixels, along a side, that the network sees.
_LARGER = 1.25
_SIZE_STEP_PX = 32


@dataclass(frozen=True)
class Transfer:
    """What the pretraining of a network is worth on the photos.

    ``verdict``: "well", "partly" or "badly". ``gain`` and its 95 % ``interval``, -1..1: accuracy of the linear probe
    on pretrained features less that on the random twin's, on the same photos. ``errors_removed``: share of the twin's
    errors that are gone. ``distance``: "near", "between", "far", or None for a network that does not tell.
    ``words``: all of it, and what helps where features transfer badly.
    """

    verdict: str
    gain: float
    interval: tuple[float, float]
    errors_removed: float
    distance: str | None
    words: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "interval": list(self.interval)}


def transfer(measured: Measured, median_side_px: float, *, seed: int = 0) -> Transfer:
    """Judge a measured network; ``median_side_px``: the shorter side of the middle photo.

    No measurable gain over the random twin counts as badly, however accurate both are.
    """
    pretrained, random = measured.probe, measured.random
    gain = pretrained.accuracy - random.accuracy
    interval = paired_interval(pretrained.right, random.right, seed=seed)
    removed = gain / max(1 - random.accuracy, 1e-9)
    verdict = "well" if removed >= _WELL else "partly"
    if interval[0] <= 0 or removed < _BADLY:
        verdict = "badly"
    distance = None
    if measured.shift is not None:
        distance = "near" if measured.shift < _NEAR else "far" if measured.shift > _FAR else "between"
    sentences = [
        _opening(measured, verdict, removed),
        f"Of the 10 nearest neighbours {100 * pretrained.agreement:.0f} % have the same class, with random weights "
        f"{100 * random.agreement:.0f} %.",
    ]
    if distance is not None:
        sentences.append(_seen(distance, measured.shift or 0.0, verdict))
    if verdict != "well" or distance == "far":
        sentences.append(_help(measured.size_px, median_side_px, verdict))
    return Transfer(verdict, gain, interval, removed, distance, " ".join(sentences))


def _opening(measured: Measured, verdict: str, removed: float) -> str:
    name, own, random = measured.name, 100 * measured.probe.accuracy, 100 * measured.random.accuracy
    figures = f"a linear head gets {own:.1f} % on the pretrained features of {name}, {random:.1f} % with random weights"
    if verdict == "well":
        return f"Yes: {figures}; pretraining takes away {100 * removed:.0f} % of the errors."
    if verdict == "partly":
        return f"In part: {figures}; pretraining takes away {100 * removed:.0f} % of the errors."
    return f"No: {figures}; what the network learned in its pretraining hardly helps here."


def _seen(distance: str, shift: float, verdict: str) -> str:
    figure = f"({shift:.3f} nats per channel between the statistics of both)"
    if distance == "near":
        return f"To the network the photos look like those of its pretraining {figure}."
    if distance == "between":
        return f"To the network the photos look somewhat unlike those of its pretraining {figure}."
    though = ", yet its features tell the classes apart" if verdict == "well" else ""
    return f"To the network the photos are far from those of its pretraining {figure}{though}."


def _help(size_px: int, median_side_px: float, verdict: str) -> str:
    larger = int(min(median_side_px, 2 * size_px) // _SIZE_STEP_PX * _SIZE_STEP_PX)
    size = ""
    if median_side_px >= _LARGER * size_px and larger > size_px:
        sizes = f"the photos have about {median_side_px:.0f} px, the network sees {size_px}"
        size = f"a larger input (--size {larger}: {sizes})"
    deeper = "fine-tuning deeper (--fine-tune 10 --unfreeze all)"
    if verdict == "well":
        return f"What may still help: {' or '.join(filter(None, [deeper, size]))}."
    words = f"What helps: {' and '.join(filter(None, [deeper, size]))}."
    if verdict == "badly":
        words += " If that does not help either, see whether people can tell the classes apart in these photos."
    return words
