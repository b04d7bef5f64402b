"""Run directories made up for tests: every file that a report reads, without a network."""

import csv
import json
from pathlib import Path

import numpy as np

from tests.pictures import photo
from tlkeras.data.audit import audit
from tlkeras.data.dataset import LabelledImages
from tlkeras.evaluation.metrics import Answers, evaluate_probabilities


def make_run(folder: Path, class_names, images_per_class, *, side_px=64, wrong=0.2, names=None, issues=0, seed=0):
    """A run with ``images_per_class`` test photos of each class, as many for training, and a share of wrong answers.

    ``names``: file names of the first test photos. Returns the folder.
    """
    random = np.random.default_rng(seed)
    photos = folder / "photos"
    photos.mkdir(parents=True)
    paths, labels, splits = [], [], []
    given = list(names or [])
    for label in range(len(class_names)):
        for split in ("train", "test"):
            for number in range(images_per_class):
                name = given.pop(0) if given and split == "test" else f"{split}-{label}-{number}.jpg"
                picture = photo(side_px, side_px * 3 // 4, seed=seed + len(paths))
                picture.save(photos / name, "JPEG")
                paths.append(str(photos / name))
                labels.append(label)
                splits.append(split)
    dataset = LabelledImages("made", "made", tuple(class_names), tuple(paths), np.array(labels), np.array(splits))
    test = dataset.in_split("test")
    probabilities = random.dirichlet(np.full(len(class_names), 0.3), len(test)).astype(np.float32)
    best = np.where(random.random(len(test)) < wrong, probabilities.argmax(axis=1), test.labels)
    swap = probabilities.argmax(axis=1)
    rows = np.arange(len(test))
    probabilities[rows, best], probabilities[rows, swap] = probabilities[rows, swap], probabilities[rows, best].copy()
    evaluation = evaluate_probabilities(probabilities, test.labels, class_names, paths=test.paths)
    temperature = 1.4
    write(folder / "metrics.json", evaluation.to_json())
    write(folder / "calibration.json", Answers.of(probabilities, test.labels, temperature).reliability(temperature))
    write(folder / "audit.json", audit(dataset).to_json())
    write(folder / "run.json", described(folder, class_names, len(test)))
    head = {"kind": "linear", "units": [256], "dropout": 0.3, "batch_norm": True}
    write(
        folder / "classifier" / "classifier.json",
        {
            **{"format": "tlkeras-classifier", "format_version": 2, "backbone": "mobilenet_v2", "size_px": 224},
            **{"fit": "stretch", "mirror": False, "head": head, "class_names": list(class_names)},
            **{"temperature": temperature, "backbone_sha256": "0" * 64, "versions": {"tlkeras": "0.1.0"}},
        },
    )
    table(
        folder / "splits.csv",
        ["path", "label", "split"],
        zip(paths, [class_names[k] for k in labels], splits, strict=True),
    )
    answers = [
        (path, class_names[label], class_names[top], f"{row[top]:.6f}")
        for path, label, row in zip(test.paths, test.labels, probabilities, strict=True)
        for top in [int(row.argmax())]
    ]
    table(folder / "predictions.csv", ["path", "label", "predicted", "probability"], answers)
    header = ["path", "label", "split", "suggested", "label_probability", "suggested_probability"]
    doubtful = [(path, label, "test", class_names[0], 0.1, 0.8) for path, label, *_ in answers[-issues:] if issues]
    table(folder / "label_issues.csv", header, doubtful)
    return folder


def described(folder, class_names, images):
    curve = [
        {"strength": 10.0 ** (k / 2), "log_loss": 1.2 - 0.1 * k if k < 4 else 0.5 + 0.05 * k, "accuracy": 0.5 + k / 20}
        for k in range(-4, 7)
    ]
    return {
        "data": str(folder / "photos"),
        "test_data": None,
        "class_names": list(class_names),
        "images": {"train": images, "validation": 0, "test": images},
        "config": {"backbone": "mobilenet_v2", "weights": "pretrained", "seed": 0, "head": {"kind": "linear"}},
        "features": {"computed": 2 * images, "reused": 0, "engine": "onnxruntime"},
        "head": {"kind": "linear", "strength": 100.0, "curve": curve},
        "calibration": {"temperature": 1.4, "ece_before": 0.1, "ece_after": 0.05, "images": images},
        "seconds": {"audit": 1.0, "all": 12.3},
        "environment": {"python": "3.11", "tlkeras": "0.1.0"},
    }


def write(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def table(path: Path, header, rows) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
