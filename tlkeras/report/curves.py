"""How the head was chosen and trained, as curves, how far the probabilities can be believed, and charts as numbers.

A template draws them as SVG: lines over an axis, and confidence against accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tlkeras.data.dataset import plural
from tlkeras.evaluation.metrics import percent
from tlkeras.report.section import Section, words
from tlkeras.run_facts import RunFacts

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


def curves(facts: RunFacts) -> Section | None:
    """Curves of fine-tuning, of the MLP's epochs, of the L2 path; and the candidates of a head search."""
    head = facts.run.get("head", {})
    rows = head.get("curve") or []
    charts: list[Chart] = []
    lead = []
    if facts.fine_tuning:
        charts += _fine_tuning(facts.fine_tuning)
        lead += _verdict(facts.fine_tuning)
    if len(rows) > 1 and "strength" in rows[0]:
        charts += _strengths(rows, float(head["strength"]))
        lead.append(
            f"The head was fitted at {len(rows)} strengths of L2 regularisation, from strong (left) to weak, and "
            "judged on photos that it had not seen. The ring is the strength that was chosen, by the log loss."
        )
    elif len(rows) > 1 and "epoch" in rows[0]:
        charts += _epochs(rows)
        lead.append("Each epoch of the MLP head, judged on the validation photos; the best epoch (the ring) was kept.")
    candidates = [row for row in head.get("search", {}).get("candidates", []) if row.get("log_loss") is not None]
    if not charts and not candidates:
        return None
    data = {
        "charts": charts,
        "lead": lead,
        "candidates": sorted(candidates, key=lambda row: row["log_loss"]),
        "reason": head.get("search", {}).get("reason", ""),
    }
    return Section("curves", "How it was trained", "Training", data)


def calibration(facts: RunFacts) -> Section | None:
    """Reliability on the test photos before and after the temperature."""
    record = facts.calibration
    if not record:
        return None
    charts = []
    for when, title in (("before", "Before calibration"), ("after", "As it answers now")):
        bars = record[when]["bins"]
        alt = f"{title}, probability against share right: {'; '.join(map(_bar, bars))}"
        charts.append(reliability_chart(f"{title}: error {percent(record[when]['ece'])}", bars, alt=alt))
    return Section(
        "calibration",
        "Can its probabilities be believed?",
        "Calibration",
        {
            "charts": charts,
            "temperature": record["temperature"],
            "images": record["images"],
            "before": record["before"]["ece"],
            "after": record["after"]["ece"],
            "few": record["images"] < 200,
            "crossed": (facts.metrics or {}).get("folds", 1) > 1,
            "held_out": facts.run.get("calibration", {}).get("images"),
        },
    )


def _bar(one: dict[str, Any]) -> str:
    photos = plural(one["images"], "photo")
    return f"{photos} at {percent(one['confidence'], 0)}, {percent(one['accuracy'], 0)} right"


def _strengths(rows: Sequence[dict[str, float]], strength: float) -> list[Chart]:
    best = min(rows, key=lambda row: abs(math.log(row["strength"] / strength)))
    span = f"L2 strength C from {rows[0]['strength']:.0e} to {rows[-1]['strength']:.0e}"
    words_for = {"log_loss": "log loss, nats", "accuracy": "accuracy"}
    return [
        line_chart(
            f"{'Log loss' if name == 'log_loss' else 'Accuracy'} on held-out photos",
            [Series(label, [(row["strength"], row[name]) for row in rows])],
            alt=f"{label} on held-out photos, {span}: {_range(rows, name)}; chosen at {_value(best[name], name)}.",
            x_label="L2 strength C, strong to weak regularisation",
            y_label=label,
            logarithmic=True,
            percent=name == "accuracy",
            mark=(best["strength"], best[name], _value(best[name], name)),
        )
        for name, label in words_for.items()
    ]


def _epochs(rows: Sequence[dict[str, float]]) -> list[Chart]:
    best = min(rows, key=lambda row: row["log_loss"])
    epochs = f"over {len(rows)} epochs"
    loss = [Series("validation", [(row["epoch"], row["log_loss"]) for row in rows])]
    if all("loss" in row for row in rows):
        loss.append(Series("training", [(row["epoch"], row["loss"]) for row in rows]))
    return [
        line_chart(
            "Loss",
            loss,
            alt=f"Loss {epochs}; on validation {_range(rows, 'log_loss')}, best at epoch {best['epoch']:g}.",
            x_label="epoch",
            y_label="log loss, nats",
            mark=(best["epoch"], best["log_loss"], _value(best["log_loss"], "log_loss")),
        ),
        line_chart(
            "Accuracy on validation photos",
            [Series("validation", [(row["epoch"], row["accuracy"]) for row in rows])],
            alt=f"Accuracy on validation {epochs}: {_range(rows, 'accuracy')}.",
            x_label="epoch",
            y_label="accuracy",
            percent=True,
            mark=(best["epoch"], best["accuracy"], _value(best["accuracy"], "accuracy")),
        ),
    ]


def _fine_tuning(record: dict[str, Any]) -> list[Chart]:
    """Every measure that the file has for two epochs or more."""
    rows = [row for row in record.get("epochs", []) if isinstance(row, dict)]
    charts = []
    for title, names, is_share in (
        ("Fine-tuning: loss", ("log_loss", "val_loss", "loss"), False),
        ("Fine-tuning: accuracy on validation photos", ("accuracy", "val_accuracy"), True),
    ):
        shown = [name for name in names if len(rows) > 1 and all(_is_number(row.get(name)) for row in rows)]
        series = [
            Series(words(name), [(float(row.get("epoch", at)), float(row[name])) for at, row in enumerate(rows, 1)])
            for name in shown
        ]
        if series:
            first, last = series[0].points[0][1], series[0].points[-1][1]
            unit = "accuracy" if is_share else "log_loss"
            charts.append(
                line_chart(
                    title,
                    series,
                    alt=f"{title} over {len(rows)} epochs, from {_value(first, unit)} to {_value(last, unit)}.",
                    x_label="epoch",
                    y_label="accuracy" if is_share else "loss, nats",
                    percent=is_share,
                )
            )
    return charts


def _verdict(record: dict[str, Any]) -> list[str]:
    """Which network was kept after fine-tuning and why, and what both did on the test photos."""
    if not record.get("reason"):
        return []
    text = f"After fine-tuning the {record.get('kept', '')} network was kept: {str(record['reason']).rstrip('.')}."
    test = record.get("test", {})
    if record.get("kept") != "frozen" and {"frozen", "kept"} <= set(test):
        before, after = percent(test["frozen"]["accuracy"]), percent(test["kept"]["accuracy"])
        text += f" Of the test photos the frozen one has {before} right, the one that was kept {after}."
    return [text]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _value(value: float, name: str) -> str:
    return percent(value) if name == "accuracy" else f"{value:.3f}"


def _range(rows: Sequence[dict[str, float]], name: str) -> str:
    values = [row[name] for row in rows]
    return f"between {_value(min(values), name)} and {_value(max(values), name)}"
