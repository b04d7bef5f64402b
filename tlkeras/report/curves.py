"""How the head was chosen and trained, as curves, and how far the probabilities can be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tlkeras.data.dataset import plural
from tlkeras.evaluation.metrics import percent
from tlkeras.report.charts import Chart, Series, line_chart, reliability_chart
from tlkeras.report.section import Section, words
from tlkeras.run_facts import RunFacts


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
        charts += _path(rows, float(head["strength"]))
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
            "held_out": facts.run.get("calibration", {}).get("images"),
        },
    )


def _bar(one: dict[str, Any]) -> str:
    photos = plural(one["images"], "photo")
    return f"{photos} at {percent(one['confidence'], 0)}, {percent(one['accuracy'], 0)} right"


def _path(rows: Sequence[dict[str, float]], strength: float) -> list[Chart]:
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
