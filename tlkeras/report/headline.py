"""The first screen: what was trained on what, how good it is, what deserves a look; and the confusion of classes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tlkeras.data.dataset import plural
from tlkeras.evaluation.metrics import percent
from tlkeras.report.pictures import MAX_CLASSES
from tlkeras.report.section import Section, Thumbnails, file_name, words
from tlkeras.run_facts import CROSSED, Prediction, RunFacts

# What the papers and Keras call the families; other names stand as they are.
_HEADS = {"linear": "a linear head", "mlp": "an MLP head"}


def headline(facts: RunFacts) -> Section:
    """The verdict in one sentence, the figures behind it."""
    metrics = facts.metrics or {}
    return Section(
        "summary",
        words(facts.data_name) or "A classifier",
        "Summary",
        {
            "verdict": verdict(facts),
            "accuracy": metrics["accuracy"],
            "interval": metrics["accuracy_interval"],
            "tiles": _tiles(facts),
            "made": made_of(facts),
        },
    )


def verdict(facts: RunFacts) -> str:
    """One sentence with the accuracy and its interval."""
    metrics = facts.metrics or {}
    low, high = metrics["accuracy_interval"]
    subject = f"{plural(len(facts.class_names), 'class', 'classes')}" if len(facts.class_names) > 4 else _listed(facts)
    return (
        f"This classifier tells {subject} apart and gets {percent(metrics['accuracy'])} of {metrics['images']:,} "
        f"{facts.measured_on}{',' * (facts.measured_on == CROSSED)} right "
        f"(95 % interval: {percent(low)} to {percent(high)})."
    )


def made_of(facts: RunFacts) -> str:
    """What was trained on what, in one sentence."""
    config = facts.classifier
    head = _HEADS.get(str(config["head"]["kind"]), f"a {config['head']['kind']} head")
    how = "fine-tuned" if facts.fine_tuned else "frozen"
    line = f"{config['backbone']} at {config['size_px']} px, {how}, with {head}"
    images = facts.run.get("images")
    if images:
        line += f", trained on {plural(images['train'], 'photo')}"
        if images.get("validation"):
            line += f" and tuned on {images['validation']:,} more"
    return f"{line}."


def _listed(facts: RunFacts) -> str:
    names = [words(name) for name in facts.class_names]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _tiles(facts: RunFacts) -> list[dict[str, str]]:
    """Figures for the first screen: what, how much, and what it is to be compared with."""
    metrics = facts.metrics or {}
    counts = [row["images"] for row in metrics["per_class"]]
    guess = max(counts) / max(sum(counts), 1)
    tiles = [
        {
            "name": "Mean per class",
            "value": percent(metrics["mean_per_class_accuracy"]),
            "note": "accuracy when every class counts the same",
        },
        {"name": "Without looking", "value": percent(guess), "note": "right by always naming the largest class"},
    ]
    if metrics.get("top5_accuracy") is not None:
        tiles.append(
            {"name": "Top five", "value": percent(metrics["top5_accuracy"]), "note": "right class among the first five"}
        )
    tiles.append(
        {
            "name": "Calibration error",
            "value": percent(metrics["ece"]),
            "note": "how far its probabilities are off, on average",
        }
    )
    seconds = facts.run.get("seconds", {}).get("all")
    if seconds:
        tiles.append({"name": "Training", "value": _time(seconds), "note": "the whole job, photos read and checked"})
    return tiles


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def look_at(facts: RunFacts, sections: list[Section]) -> list[dict[str, Any]]:
    """What deserves a look first, each with the section that shows it."""
    shown = {section.name: section for section in sections}
    found: list[dict[str, Any]] = []
    weakest = facts.weakest
    if "classes" in shown and weakest["recall"] < 1:
        found.append(
            {
                "section": "classes",
                "text": f"Weakest class: {words(weakest['class'])}, {percent(weakest['recall'], 0)} of "
                f"{plural(weakest['images'], 'photo')} found",
            }
        )
    if "confusion" in shown and (pairs := shown["confusion"].data["pairs"]):
        label, predicted, count = pairs[0]
        found.append(
            {
                "section": "confusion",
                "text": f"Most often confused: {words(label)} taken for {words(predicted)}, {plural(count, 'time')}",
            }
        )
    if "audit" in shown:
        counts = (facts.audit or {})["counts"]
        parts = [f"{counts[name]:,} {name}" for name in ("rejected", "suspicious") if counts[name]]
        if parts:
            found.append({"section": "audit", "text": f"Files: {' and '.join(parts)} of {counts['images']:,}"})
    if "labels" in shown:
        count = shown["labels"].data["total"]
        found.append(
            {
                "section": "labels",
                "text": f"Labels: {plural(count, 'photo looks', 'photos look')} more like another class",
            }
        )
    if "copies" in shown:
        count = shown["copies"].data["total"]
        found.append(
            {"section": "copies", "text": f"Copies: {plural(count, 'photo')} stood in two splits and left one"}
        )
    if "adversarial" in shown and shown["adversarial"].data["example"]["fooled"]:
        linf = shown["adversarial"].data["example"]["linf"]
        found.append(
            {"section": "adversarial", "text": f"It can be fooled by changing each pixel by at most {linf:g} of 255"}
        )
    return found


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
