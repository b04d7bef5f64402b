"""What a run leaves for its report beside the classifier: reliability on the test, labels that are in doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.evaluation.calibration import reliability_record
from tlkeras.evaluation.label_errors import label_doubts
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.logits import fit_temperature, softmax
from tlkeras.heads.search import search_linear
from tlkeras.run_facts import CALIBRATION_FILE, ISSUES_FILE
from tlkeras.storage import csv_bytes, write_bytes, write_json
from tlkeras.training.fit import Fitted
from tlkeras.training.judge import Judgement

# Of out-of-fold heads where the run's own head has no L2 strength; what photos usually want.
_STRENGTH = 0.1


def write_records(folder: Path, fitted: Fitted, judgement: Judgement, *, seed: int) -> None:
    """Write ``calibration.json`` and ``label_issues.csv`` into a run directory."""
    temperature = fitted.classifier.config.temperature
    record = reliability_record(judgement.probabilities, judgement.images.labels, temperature)
    write_json(folder / CALIBRATION_FILE, record)
    header = ["path", "label", "split", "suggested", "label_probability", "suggested_probability"]
    write_bytes(folder / ISSUES_FILE, csv_bytes(header, label_issue_rows(fitted, judgement, seed=seed)))


def label_issue_rows(fitted: Fitted, judgement: Judgement, *, seed: int) -> list[list[Any]]:
    """A row for each image whose label is in doubt, the most doubtful first.

    Every image is judged by a model that was not trained on it: those of train and validation by linear heads in
    folds, those of the test by the classifier itself.
    """
    rows, logits = _out_of_fold(fitted, seed)
    labels = fitted.images.labels[rows]
    test = np.flatnonzero(fitted.images.splits == "test")
    indices = np.concatenate([rows, test])
    probabilities = np.concatenate([softmax(logits, fit_temperature(logits, labels)), judgement.probabilities])
    names, images = fitted.images.class_names, fitted.images
    return [
        [
            images.paths[at],
            names[doubt.label],
            images.splits[at],
            names[doubt.suggested],
            f"{doubt.label_probability:.6f}",
            f"{doubt.suggested_probability:.6f}",
        ]
        for doubt in label_doubts(probabilities, images.labels[indices])
        for at in (indices[doubt.index],)
    ]


def _out_of_fold(fitted: Fitted, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices int64 ``[M]`` of train and validation images, and logits ``[M, K]`` of heads that had not seen them."""
    splits, head = fitted.images.splits, fitted.head
    pooled = np.concatenate([np.flatnonzero(splits == name) for name in ("train", "validation")])
    # Where the strength was chosen in folds, nearly all images have such logits already.
    if head.held_out_rows is not None and 2 * len(head.held_out_rows) > len(pooled):
        return pooled[head.held_out_rows], head.held_out_logits
    result = search_linear(
        unit_rows(fitted.features.matrix[pooled]),
        fitted.images.labels[pooled],
        None,
        None,
        len(fitted.images.class_names),
        seed=seed,
        groups=fitted.audit.groups[pooled],
        strengths=(head.description.get("strength", _STRENGTH),),
    )
    return pooled[result.held_out_indices], result.held_out_logits
