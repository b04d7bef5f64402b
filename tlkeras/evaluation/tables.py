"""An evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tlkeras.evaluation.metrics import ClassFigures, Evaluation, measured_words
from tlkeras.evaluation.metrics import percent as _percent

if TYPE_CHECKING:
    from rich.table import Table

# Up to here a confusion matrix fits a terminal, and classes are listed in their own order.
_SMALL = 12
_WORST_CLASSES = 20
_PAIRS = 10


def tables(evaluation: Evaluation) -> list[Table]:
    """``rich`` tables: the headline, the classes, the most confused pairs and, up to 12 classes, the confusion matrix.

    With more than 12 classes the worst 20 are listed, worst first. Pairs are left out when nothing was confused.
    """
    shown = [_headline(evaluation), _classes(evaluation)]
    pairs = confused_pairs(evaluation)
    if pairs:
        shown.append(_pairs(evaluation, pairs))
    if len(evaluation.class_names) <= _SMALL:
        shown.append(_matrix(evaluation))
    return shown


def search_tables(head: Mapping[str, Any]) -> list[Table]:
    """The candidates of a head search as a ``rich`` table; none where ``head``, its description, has no search."""
    from rich.table import Table

    search = head.get("search")
    if search is None:
        return []
    table = Table("candidate", title="Heads on held-out images")
    for column in ("log loss", "accuracy", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in search["candidates"]:
        loss = "–" if row["log_loss"] is None else f"{row['log_loss']:.4f}"
        note = "chosen" if row["name"] == search["chosen"] else row["note"]
        table.add_row(row["name"], loss, _percent(row["accuracy"]), f"{row['seconds']:.1f}", note)
    return [table]


def confused_pairs(evaluation: Evaluation, limit: int = _PAIRS) -> list[tuple[str, str, int]]:
    """(true class, predicted class, images) for the most frequent confusions, most images first."""
    names = evaluation.class_names
    pairs = [
        (names[row], names[column], images)
        for row, counts in enumerate(evaluation.confusion)
        for column, images in enumerate(counts)
        if row != column and images
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:limit]


def _headline(evaluation: Evaluation) -> Table:
    from rich.table import Table

    low, high = evaluation.accuracy_interval
    table = Table(title="Evaluation", show_header=False)
    table.add_row("images", str(evaluation.images))
    table.add_row("accuracy", f"{_percent(evaluation.accuracy)}  (95 %: {_percent(low)} to {_percent(high)})")
    if evaluation.folds > 1:
        table.add_row("measured", measured_words(evaluation.images, evaluation.folds))
    table.add_row("mean per-class accuracy", _percent(evaluation.mean_per_class_accuracy))
    low, high = evaluation.macro_f1_interval
    table.add_row("macro F1", f"{_percent(evaluation.macro_f1)}  (95 %: {_percent(low)} to {_percent(high)})")
    if evaluation.top5_accuracy is not None:
        table.add_row("top-5 accuracy", _percent(evaluation.top5_accuracy))
    table.add_row("log loss", f"{evaluation.log_loss:.4f}")
    table.add_row("calibration error (ECE)", _percent(evaluation.ece))
    return table


def _classes(evaluation: Evaluation) -> Table:
    from rich.table import Table
    from rich.text import Text

    figures = list(evaluation.per_class)
    title = "Classes"
    if len(figures) > _SMALL:
        figures = sorted((c for c in figures if c.recall is not None), key=_worst_first)[:_WORST_CLASSES]
        title = f"Classes, worst {len(figures)} of {len(evaluation.class_names)}"
    table = Table("class", title=title)
    for column in ("images", "precision", "recall", "95 %", "F1"):
        table.add_column(column, justify="right")
    for c in figures:
        # Text, not str: a class may be called "[red]".
        between = "–" if c.recall_interval is None else " to ".join(f"{100 * bound:.0f}" for bound in c.recall_interval)
        table.add_row(Text(c.name), str(c.images), _percent(c.precision), _percent(c.recall), between, _percent(c.f1))
    return table


def _worst_first(figures: ClassFigures) -> tuple[float, float]:
    return figures.f1 or 0.0, figures.recall or 0.0


def _pairs(evaluation: Evaluation, pairs: list[tuple[str, str, int]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("true", "predicted", title="Most confused")
    table.add_column("images", justify="right")
    for label, predicted, images in pairs:
        table.add_row(Text(label), Text(predicted), str(images))
    return table


def _matrix(evaluation: Evaluation) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("true \\ predicted", title="Confusion matrix (images)")
    for name in evaluation.class_names:
        table.add_column(Text(name), justify="right")
    for name, counts in zip(evaluation.class_names, evaluation.confusion, strict=True):
        table.add_row(Text(name), *(str(count) if count else "·" for count in counts))
    return table
