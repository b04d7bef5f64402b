"""Training a linear head on a finished folder of features, in memory where they fit, else streaming over the shards."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import backbones
from tlkeras.errors import ConfigError, DataError, WeightsError
from tlkeras.evaluation.calibration import expected_calibration_error
from tlkeras.evaluation.metrics import Evaluation, evaluate_probabilities
from tlkeras.features.shards import ShardSet
from tlkeras.heads.config import HeadConfig, linear_model
from tlkeras.heads.linear import NOT_CONVERGED, LinearHead
from tlkeras.heads.logits import fit_temperature, softmax
from tlkeras.heads.search import search_linear
from tlkeras.heads.streaming import memory_bytes, search_streaming
from tlkeras.progress import Reporter, Silent
from tlkeras.storage import new_folder, staged_folder, write_json
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network, versions
from tlkeras.training.config import TrainConfig
from tlkeras.training.fit import Calibration, Clock
from tlkeras.training.run import RUNS_FOLDER
from tlkeras.training.shard_rows import ShardRows, read_rows

DEFAULT_MEMORY_GB = 2.0
# The in-memory search holds its features so often: as they are, standardised, rotated, and a fold of them.
COPIES_IN_MEMORY = 5


@dataclass(frozen=True)
class ShardRun:
    """A finished run on shards; ``description``: plain values, what ``--json`` prints."""

    folder: Path
    evaluation: Evaluation
    description: dict[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras train --json`` prints."""
        return self.description


def train_on_shards(
    config: TrainConfig,
    features: str,
    *,
    out: str | Path | None = None,
    memory_gb: float = DEFAULT_MEMORY_GB,
    reporter: Reporter | None = None,
) -> ShardRun:
    """Train on a folder that ``tlkeras extract`` wrote, measure on its test split, write a run directory.

    ``config``: of it are used ``weights``, ``seed`` and the two fractions; the rest is the recipe of the features.
    ``memory_gb``: with ``COPIES_IN_MEMORY`` of all features within it the head is searched in memory; otherwise the
    strength is chosen by the same search on a sample that fits, and the head is fitted over the shards
    (``tlkeras.heads.streaming``), of which one at a time is in memory. Besides, 13 bytes an image are held.

    Raises: DataError, ConfigError, WeightsError, StorageError.
    """
    reporter = reporter or Silent()
    clock = Clock()
    if config.head.kind != "linear":
        raise ConfigError("on stored shards the head is linear", received=f"--head {config.head.kind}")
    if not memory_gb > 0:
        raise ConfigError("--memory-gb is a positive number", received=memory_gb)
    if out is not None:
        new_folder(out, RUNS_FOLDER, "")
    shards = ShardSet(features)
    space = shards.space
    network = backbones.build(space["backbone"], config.weights, size_px=space["size_px"])
    if backbones.weights_sha256(network) != space["weights_sha256"]:
        raise WeightsError(
            "the features were made with other weights",
            received=f"--weights {config.weights}",
            next_step="Name the same.",
        )
    rows = read_rows(
        shards,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
    )
    reporter.say(_summary(rows))
    clock.stop("labels")
    head, held_out, described = _head(rows, int(space["feature_size"]), memory_gb * 1e9, config.seed, reporter)
    temperature = fit_temperature(*held_out)
    clock.stop("head")
    classifier = _classifier(rows, network, head, temperature)
    evaluation = _evaluate(classifier, rows, head)
    clock.stop("evaluation")
    folder = new_folder(out, RUNS_FOLDER, f"{Path(features).name}-{space['backbone']}")
    before, after = (
        float(expected_calibration_error(softmax(held_out[0], t), held_out[1])) for t in (1.0, temperature)
    )
    description = {
        "run": str(folder),
        "classifier": str(folder / "classifier"),
        "class_names": list(rows.class_names),
        "audit": {
            "images": len(shards),
            "rejected": rows.rejected + rows.copies + rows.conflicts,
            "reasons": {"unreadable": rows.rejected, "duplicate": rows.copies, "conflict": rows.conflicts},
            "unlabelled": rows.unlabelled,
        },
        "features": {"computed": 0, "reused": len(shards) - rows.rejected, "engine": None},
        "head": described,
        "evaluation": evaluation.to_json(),
        "calibration": asdict(Calibration(temperature, before, after, len(held_out[1]))),
        "seconds": round(sum(clock.seconds.values()), 3),
    }
    run = ShardRun(folder, evaluation, description, sum(clock.seconds.values()))
    with staged_folder(folder) as staged:
        classifier.save(staged / "classifier")
        write_json(staged / "metrics.json", evaluation.to_json())
        images = {name: rows.count(name) for name in ("train", "validation", "test")}
        environment = {"python": platform.python_version(), "platform": platform.platform(), **versions()}
        write_json(
            staged / "run.json",
            {
                **{
                    name: value
                    for name, value in description.items()
                    if name not in ("run", "classifier", "evaluation")
                },
                "data": features,
                "space": space,
                "images": images,
                "config": config.to_json(),
                "environment": environment,
            },
        )
    return run


def _head(
    rows: ShardRows, size: int, budget: float, seed: int, reporter: Reporter
) -> tuple[LinearHead, tuple[np.ndarray, np.ndarray], dict[str, Any]]:
    """The head, logits and labels of images that it has not seen, and how it came about."""
    classes = len(rows.class_names)
    count = rows.count("train", "validation")
    affordable = int(budget / (4 * size * COPIES_IN_MEMORY))
    if count <= affordable:
        result = search_linear(*rows.gather("train"), *rows.gather("validation"), classes, seed=seed)
        reporter.say(f"     head  linear, in memory, L2 strength C = {result.strength:.1e}")
        if not result.converged:
            reporter.say(NOT_CONVERGED)
        described = {
            "kind": "linear",
            "strength": result.strength,
            "curve": result.curve,
            "converged": result.converged,
            "streamed": False,
        }
        return result.head, (result.held_out_logits, result.held_out_labels), described
    largest = max(shard.rows for shard in rows.shards.shards)
    needed = memory_bytes(size, classes) + 3 * 4 * size * largest
    if needed > budget:
        raise ConfigError(
            f"streaming {size} features, {classes} classes, shards of {largest:,} rows takes {needed / 1e9:.2f} GB",
            received=f"--memory-gb {budget / 1e9:g}",
        )
    chosen = _sample(rows, affordable, seed)
    X, y = rows.gather("train", chosen)
    # Folds of the sample only: validation must not have been seen when it says when to stop.
    found = search_linear(X, y, None, None, classes, seed=seed)
    del X, y
    reporter.say(
        f"     head  {count:,} rows do not fit in {budget / 1e9:g} GB: C = {found.strength:.1e} chosen on "
        f"{int(chosen.sum()):,}, now streaming ({needed / 1e6:,.0f} MB)"
    )
    with reporter.step("head", "passes") as progress:
        streamed = search_streaming(
            lambda: rows.batches("train"),
            lambda: rows.batches("validation"),
            lambda: rows.batches("train", "validation"),
            classes,
            strength=found.strength,
            start=found.head,
            progress=progress,
        )
    parts = [(streamed.held_out_head.logits(features), labels) for features, labels in rows.batches("validation")]
    held_out = (np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))
    if not streamed.converged:
        reporter.say(NOT_CONVERGED)
    described = {
        "kind": "linear",
        "strength": streamed.strength,
        "strength_of_sample": found.strength,
        "curve": streamed.curve,
        "passes": streamed.passes,
        "converged": streamed.converged,
        "left_nats": streamed.left_nats,
        "streamed": True,
        "sample": int(chosen.sum()),
        "memory_bytes": needed,
    }
    return streamed.head, held_out, described


def _sample(rows: ShardRows, count: int, seed: int) -> np.ndarray:
    """A mask [N] with about ``count`` training rows in all, as evenly over the classes as there are rows."""
    random = np.random.default_rng(seed)
    mask = np.zeros(len(rows.labels), bool)
    each = max(2, count // len(rows.class_names))
    for label in range(len(rows.class_names)):
        pool = np.flatnonzero((rows.splits == 1) & (rows.labels == label))
        mask[random.choice(pool, min(each, len(pool)), replace=False)] = True
    return mask


def _classifier(rows: ShardRows, network: Any, head: LinearHead, temperature: float) -> TrainedClassifier:
    space = rows.shards.space
    described = ClassifierConfig(
        backbone=space["backbone"],
        size_px=space["size_px"],
        fit=space["fit"],
        mirror=False,
        head=HeadConfig(),
        class_names=rows.class_names,
        temperature=temperature,
        backbone_sha256=space["weights_sha256"],
    )
    network.trainable = False
    return TrainedClassifier(described, build_network(described, network, linear_model(head)))


def _evaluate(classifier: TrainedClassifier, rows: ShardRows, head: LinearHead) -> Evaluation:
    def measured() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for features, labels in rows.batches("test"):
            yield classifier.probabilities(head.logits(features)), labels

    parts = list(measured())
    if not parts:
        raise DataError("there are no test rows", received=f"'{rows.shards.folder}'")
    probabilities, labels = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return evaluate_probabilities(probabilities, labels, classifier.class_names)


def _summary(rows: ShardRows) -> str:
    counts = ", ".join(f"{name} {rows.count(name):,}" for name in ("train", "validation", "test"))
    left = {
        "rejected": rows.rejected,
        "copies": rows.copies,
        "in conflict": rows.conflicts,
        "without class": rows.unlabelled,
    }
    out = ", ".join(f"{count:,} {words}" for words, count in left.items() if count)
    return f"{len(rows.shards):,} images of {len(rows.class_names)} classes: {counts}" + (
        f"; left out {out}" if out else ""
    )
