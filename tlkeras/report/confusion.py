"""The confusion matrix whose cells show their photos, and the figures of each class."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tlkeras.report.pictures import MAX_CLASSES
from tlkeras.report.section import Section, file_name, words
from tlkeras.report.thumbnails import Thumbnails
from tlkeras.run_facts import Prediction, RunFacts

# Photos in all cells together, and in one: they are what the size of the file hangs on.
_PHOTOS, _IN_A_CELL = 360, 12
_SIDE_PX = 112
_PAIRS = 12


def confusion(facts: RunFacts, thumbnails: Thumbnails) -> Section | None:
    """The matrix, up to ``MAX_CLASSES`` classes, and the pairs that are confused most often."""
    metrics = facts.metrics or {}
    names, matrix = metrics["class_names"], metrics["confusion"]
    photos = _chosen(facts.predictions)
    pairs = sorted(
        ((count, row, column) for row, counts in enumerate(matrix) for column, count in enumerate(counts)
         if count and row != column),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )  # fmt: skip
    small = len(names) <= MAX_CLASSES
    shown = [(row, column) for row, counts in enumerate(matrix) for column, count in enumerate(counts) if count]
    if not small:
        shown = [(row, column) for _, row, column in pairs[:_PAIRS]]
    cells = {
        (row, column): {
            "id": f"cell-{row}-{column}",
            "row": row,
            "column": column,
            "count": matrix[row][column],
            "share": matrix[row][column] / max(sum(matrix[row]), 1),
            "label": words(names[row]),
            "predicted": words(names[column]),
            "right": row == column,
            "photos": [
                (thumbnails.of(one.path, _SIDE_PX), file_name(one.path), one.probability)
                for one in photos.get((names[row], names[column]), ())
            ],
        }
        for row, column in shown
    }
    rows: list[dict[str, Any]] = []
    if small:
        rows = [
            {"name": words(name), "cells": [cells.get((row, column)) for column in range(len(names))]}
            for row, name in enumerate(names)
        ]
    return Section(
        "confusion",
        "What it takes for what",
        "Confusion",
        {
            "rows": rows,
            "names": [words(name) for name in names],
            "cells": list(cells.values()),
            "pairs": [(names[row], names[column], count) for count, row, column in pairs[:_PAIRS]],
            "pair_cells": [] if small else [cells[row, column] for _, row, column in pairs[:_PAIRS]],
            "dense": len(names) > 12,
        },
    )


def _chosen(predictions: tuple[Prediction, ...]) -> dict[tuple[str, str], list[Prediction]]:
    """Photos for the cells: all cells get their first, then their second …, until there are enough.

    Of wrong answers the most confident come first, of right ones the least confident.
    """
    of_cell: dict[tuple[str, str], list[Prediction]] = defaultdict(list)
    for one in predictions:
        of_cell[one.label, one.predicted].append(one)
    for (label, predicted), found in of_cell.items():
        found.sort(key=lambda one: one.probability if label == predicted else -one.probability)
    # Mistakes first: they are what the matrix is opened for.
    order = sorted(of_cell, key=lambda cell: (cell[0] == cell[1], -len(of_cell[cell])))
    chosen: dict[tuple[str, str], list[Prediction]] = defaultdict(list)
    left = _PHOTOS
    for place in range(_IN_A_CELL):
        for cell in order:
            if left and place < len(of_cell[cell]):
                chosen[cell].append(of_cell[cell][place])
                left -= 1
    return chosen


def per_class(facts: RunFacts) -> Section:
    """Precision, recall and F1 of each class, the weakest first."""
    rows = sorted(
        ({**row, "name": words(row["class"])} for row in (facts.metrics or {})["per_class"]),
        key=lambda row: (row["recall"] is None, row["f1"] or 0.0, row["class"]),
    )
    return Section("classes", "Class by class", "Per class", {"rows": rows})
