"""Charts as plain numbers that a template draws as SVG: lines over an axis, and confidence against accuracy.

They are drawn small, so that the words in them can be read on a phone, and coloured by the page, so that a dark page
has dark charts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH, HEIGHT = 380, 262
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 42
_TICKS = 5


@dataclass(frozen=True)
class Series:
    """One line: points ``(x, y)`` in the data's units, ``low`` and ``high`` where it has an interval."""

    name: str
    points: Sequence[tuple[float, float]]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Line:
    """A series in pixels of the chart: SVG paths, its points, and its place in the legend (0..)."""

    name: str
    place: int
    path: str
    points: list[tuple[float, float]]
    band: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart in pixels of its own box ``width`` × ``height``, for the template ``charts.html.j2``.

    ticks_x, ticks_y: (place, words). mark: (x, y, words) of one point that is pointed out. alt: what it tells, in
    words.
    """

    title: str
    alt: str
    x_label: str
    y_label: str
    lines: list[Line] = field(default_factory=list)
    ticks_x: list[tuple[float, str]] = field(default_factory=list)
    ticks_y: list[tuple[float, str]] = field(default_factory=list)
    dots: list[dict[str, Any]] = field(default_factory=list)
    mark: tuple[float, float, str] | None = None
    diagonal: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    alt: str,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    percent: bool = False,
    ticks: Sequence[float] = (),
    mark: tuple[float, float, str] | None = None,
) -> Chart:
    """Lines over one axis.

    ``logarithmic``: of x. ``percent``: y are shares 0..1. ``ticks``: of x; chosen when none are given. ``mark``: a
    point in the data's units, with words.
    """
    xs = [_place(x, logarithmic) for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points] + [y for one in series for y in (*one.low, *one.high)]
    x_low, x_high = _apart(min(xs), max(xs))
    y_ticks = _round_ticks(*_apart(min(ys), max(ys)))
    if percent:
        y_ticks = [tick for tick in y_ticks if -1e-9 <= tick <= 1 + 1e-9]
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (_place(x, logarithmic) - x_low) / (x_high - x_low)
        up = (y - y_low) / (y_high - y_low)
        left, right, top, bottom = _LEFT + 6, WIDTH - _RIGHT - 6, _TOP, HEIGHT - _BOTTOM
        return round(left + across * (right - left), 1), round(bottom - up * (bottom - top), 1)

    lines = []
    for place, one in enumerate(series):
        points = [at(x, y) for x, y in one.points]
        band = ""
        if one.low:
            upper = [at(x, y) for (x, _), y in zip(one.points, one.high, strict=True)]
            lower = [at(x, y) for (x, _), y in zip(one.points, one.low, strict=True)]
            band = _path([*upper, *reversed(lower)]) + "Z"
        lines.append(Line(one.name, place, _path(points), points, band))
    if not ticks:
        low, high = (10**x_low, 10**x_high) if logarithmic else (x_low, x_high)
        ticks = _decades(low, high) if logarithmic else [t for t in _round_ticks(low, high) if low <= t <= high]
    return Chart(
        title=title,
        alt=alt,
        x_label=x_label,
        y_label=y_label,
        lines=lines,
        ticks_x=[(at(tick, y_low)[0], _words(tick)) for tick in ticks],
        ticks_y=[(at(series[0].points[0][0], tick)[1], _words(tick, percent)) for tick in y_ticks],
        mark=None if mark is None else (*at(mark[0], mark[1]), mark[2]),
    )


def reliability_chart(title: str, bins: Sequence[dict[str, Any]], *, alt: str) -> Chart:
    """Confidence against accuracy: a dot for each bin, its area by its images, hung from the diagonal."""
    low, bottom = _LEFT + 6, HEIGHT - _BOTTOM
    width, height = WIDTH - _RIGHT - 6 - low, bottom - _TOP

    def at(x: float, y: float) -> tuple[float, float]:
        return round(low + x * width, 1), round(bottom - y * height, 1)

    most = max((int(one["images"]) for one in bins), default=1)
    dots = []
    for one in bins:
        x, y = at(one["confidence"], one["accuracy"])
        radius = round(max(2.5, 11 * math.sqrt(one["images"] / most)), 1)
        dots.append({"x": x, "y": y, "r": radius, "ideal": at(one["confidence"], one["confidence"])[1], **one})
    quarters = [0.0, 0.25, 0.5, 0.75, 1.0]
    return Chart(
        title=title,
        alt=alt,
        x_label="probability that was given",
        y_label="share that was right",
        dots=dots,
        ticks_x=[(at(tick, 0)[0], f"{100 * tick:.0f} %") for tick in quarters],
        ticks_y=[(at(0, tick)[1], f"{100 * tick:.0f} %") for tick in quarters],
        diagonal=_path([at(0, 0), at(1, 1)]),
    )


def _place(x: float, logarithmic: bool) -> float:
    return math.log10(x) if logarithmic else x


def _apart(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _round_ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose low..high."""
    rough = (high - low) / (_TICKS - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    exponents = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    every = max(1, math.ceil(len(exponents) / 5))
    return [10.0**exponent for exponent in exponents if exponent % every == 0]


def _words(value: float, percent: bool = False) -> str:
    if percent:
        return f"{100 * value:.4g} %"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
