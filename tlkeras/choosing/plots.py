"""Choices as Matplotlib figures: accuracy against time, and accuracy against the number of photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.choosing.compare import Comparison
from tlkeras.choosing.few_shot import FewShot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRONT, _OTHER, _TAKEN = "#20639b", "#9aa0a6", "#c2571a"
_DPI = 120


def figure_of_comparison(comparison: Comparison) -> Figure:
    """Accuracy with its 95 % interval against milliseconds per image (batch 1), the Pareto front joined.

    The recommended network is filled in orange, what a random twin reaches is a dash at the same time.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(7.6, 4.8), layout="constrained", dpi=_DPI)
    axis = figure.subplots()
    front = [m for name in comparison.recommendation.front for m in comparison.measured if m.name == name]
    axis.plot([m.ms[1] for m in front], [100 * m.probe.accuracy for m in front], color=_FRONT, linewidth=1.2, zorder=1)
    for m in comparison.measured:
        low, high = m.probe.interval
        value = 100 * m.probe.accuracy
        colour = _FRONT if m in front else _OTHER
        if m.name == comparison.recommendation.name:
            colour = _TAKEN
        # Rounding may put a bound on the wrong side of the value.
        spread = [[max(value - 100 * low, 0)], [max(100 * high - value, 0)]]
        axis.errorbar(m.ms[1], value, yerr=spread, color=colour, marker="o", markersize=7, capsize=3, linewidth=1.2)
        axis.plot(m.ms[1], 100 * m.random.accuracy, marker="_", markersize=12, color=_OTHER, zorder=0)
    axis.axhline(100 * comparison.chance, color="#c9ccd1", linewidth=1, linestyle="--", zorder=0)
    axis.set_xscale("log")
    times = [m.ms[1] for m in comparison.measured]
    axis.set_xlim(min(times) / 1.5, max(times) * 1.5)
    _plain_ticks(axis, *axis.get_xlim())
    lowest = min(100 * comparison.chance, *(100 * m.random.accuracy for m in comparison.measured))
    axis.set_ylim(max(lowest - 6, -3), 104)
    _name_points(axis, comparison)
    axis.set_xlabel(f"milliseconds per image, batch 1, {comparison.threads} threads, network only")
    axis.set_ylabel("accuracy, %")
    axis.set_title(
        f"{comparison.data}: {comparison.images:,} photos, linear head, cross-validated", loc="left", fontsize=11
    )
    handles = [
        Line2D([], [], color=_TAKEN, marker="o", linestyle="", label="recommended"),
        Line2D([], [], color=_FRONT, marker="o", linewidth=1.2, label="none is quicker and better"),
        Line2D([], [], color=_OTHER, marker="o", linestyle="", label="others"),
        Line2D([], [], color=_OTHER, marker="_", markersize=12, linestyle="", label="random weights"),
        Line2D([], [], color="#c9ccd1", linestyle="--", label="most frequent class"),
    ]
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=len(handles))
    _open(axis)
    return figure


def _name_points(axis: Any, comparison: Comparison) -> None:
    """Names along the time axis, each upright under its point, or over it where there is no room; none touch."""
    low, high = axis.get_ylim()
    left, right = np.log(axis.get_xlim())
    last = -1.0
    for m in sorted(comparison.measured, key=lambda m: m.ms[1]):
        # In shares of the axis; a line of text is about 0.03 wide.
        across = max((float(np.log(m.ms[1])) - left) / (right - left), last + 0.03)
        last = across
        under = (100 * m.probe.interval[0] - low) / (high - low) - 0.02
        over = (100 * m.probe.interval[1] - low) / (high - low) + 0.02
        axis.annotate(
            m.name if "=" not in m.name else f"{m.backbone}, own weights",
            (across, under if under > 0.35 else over),
            xycoords="axes fraction", ha="center", va="top" if under > 0.35 else "bottom",
            rotation=90, fontsize=8, color="#333333",
        )  # fmt: skip


def figure_of_few_shot(curve: FewShot) -> Figure:
    """Test accuracy against photos per class: every draw a dot, mean and spread; all photos as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 4.3), layout="constrained", dpi=_DPI)
    axis = figure.subplots()
    few = [point for point in curve.points if point.per_class is not None]
    everything = curve.points[-1]
    shots = [point.per_class or 0 for point in few]
    means = np.array([100 * point.mean for point in few])
    spreads = np.array([100 * point.spread for point in few])
    axis.fill_between(shots, means - spreads, means + spreads, color=_FRONT, alpha=0.15, linewidth=0)
    axis.plot(shots, means, color=_FRONT, marker="o", linewidth=1.6, label="mean ± standard deviation")
    for point in few:
        values = [100 * value for value in point.accuracies]
        axis.plot([point.per_class or 0] * len(values), values, ".", color=_OTHER, markersize=5, zorder=3)
    axis.axhline(100 * everything.mean, color=_TAKEN, linewidth=1.2, linestyle="--")
    axis.annotate(
        f"all {everything.images:,} photos: {100 * everything.mean:.1f} %",
        (0.01, 100 * everything.mean), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color=_TAKEN,
    )  # fmt: skip
    axis.set_xscale("log")
    axis.set_xticks(shots, [str(count) for count in shots])
    axis.minorticks_off()
    axis.set_ylim(top=min(103, max(axis.get_ylim()[1], 100 * everything.mean + 5)))
    axis.set_xlabel("photos of each class")
    axis.set_ylabel("test accuracy, %")
    axis.set_title(
        f"{curve.data}, {curve.backbone}: {curve.test_images:,} test photos, {len(few[0].accuracies)} draws",
        loc="left", fontsize=11,
    )  # fmt: skip
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    _open(axis)
    return figure


def _plain_ticks(axis: Any, low: float, high: float) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, in plain figures."""
    ticks = [base * 10.0**power for power in range(-3, 5) for base in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def _open(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
