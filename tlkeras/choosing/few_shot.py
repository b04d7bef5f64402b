"""How many photos it takes: accuracy of a linear head on 1, 5, 10, 25 photos a class, on one fixed test set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tlkeras.choosing.measure import Photos, audited
from tlkeras.data.dataset import LabelledImages
from tlkeras.errors import ConfigError
from tlkeras.evaluation.metrics import accuracy_interval
from tlkeras.features.source import Extraction
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.search import search_linear
from tlkeras.progress import Reporter
from tlkeras.training.config import TrainConfig
from tlkeras.training.fit import source_for

SHOTS = (1, 5, 10, 25)
SEEDS = 5


@dataclass(frozen=True)
class Point:
    """The curve at one number of photos.

    ``per_class``: photos of each class, None for all there are. ``images``: photos in all; ``short_classes``: classes
    that had fewer and gave all they have. ``accuracies``: one per draw, 0..1, with ``mean`` and ``spread`` (standard
    deviation over the draws, 0 for one). ``mean_per_class_accuracy``: mean over draws of the mean recall over classes.
    """

    per_class: int | None
    images: int
    short_classes: int
    accuracies: tuple[float, ...]
    mean: float
    spread: float
    mean_per_class_accuracy: float


@dataclass(frozen=True)
class FewShot:
    """A few-shot curve: ``points`` from few photos to all, all judged by the same ``test_images``.

    ``interval``: the 95 % interval, 0..1, of the last point's accuracy, which tells how far the test set can see.
    """

    data: str
    backbone: str
    size_px: int
    class_names: tuple[str, ...]
    test_images: int
    points: tuple[Point, ...]
    interval: tuple[float, float]
    extraction: Extraction
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras few-shot --json`` prints."""
        return {
            "data": self.data,
            "backbone": self.backbone,
            "size_px": self.size_px,
            "class_names": list(self.class_names),
            "test_images": self.test_images,
            "draws": len(self.points[0].accuracies),
            "features": {
                "computed": self.extraction.computed,
                "reused": self.extraction.reused,
                "engine": self.extraction.engine,
            },
            "points": [{**asdict(point), "accuracies": list(point.accuracies)} for point in self.points],
            "all_images_interval": list(self.interval),
            "seconds": self.seconds,
        }


def few_shot(
    config: TrainConfig,
    dataset: LabelledImages,
    reporter: Reporter,
    *,
    shots: Sequence[int] = SHOTS,
    draws: int = SEEDS,
) -> FewShot:
    """The curve of a backbone on a data set, from one pass over the photos.

    Training photos are drawn from train and validation together, ``draws`` times; the photos of a larger number
    contain those of a smaller one. Of near copies one counts. The test is the split that ``tlkeras train`` measures
    on. Same seed, same curve.

    Raises: ConfigError for numbers that are none; DataError, WeightsError, StorageError.
    """
    began = time.perf_counter()
    shots = _checked(shots, draws)
    photos = audited(dataset, replace(config, test_fraction=config.test_share), reporter)
    found = source_for(config).of(photos.verdicts, reporter)
    rows = unit_rows(found.matrix)
    test = np.flatnonzero(photos.images.splits == "test")
    pool = np.flatnonzero(photos.images.splits != "test")
    drawn: dict[int, list[np.ndarray]] = {count: [] for count in shots}
    for draw in range(draws):
        order = _ordered(photos, pool, seed=[config.seed, draw])
        for count in shots:
            drawn[count].append(np.sort(np.concatenate([members[:count] for members in order])))
    largest = max(len(members) for members in order)
    points = []
    with reporter.step("heads", "heads") as progress:
        total, done = len(shots) * draws + 1, 0
        for count in shots:
            if count > largest:
                total -= draws
                continue
            recalls, accuracies = [], []
            for chosen in drawn[count]:
                accuracy, recall = _score(photos, rows, chosen, test, config.seed)
                accuracies.append(accuracy)
                recalls.append(recall)
                done += 1
                progress(done, total)
            short = sum(len(members) < count for members in order)
            points.append(_point(count, len(chosen), short, accuracies, recalls))
        accuracy, recall = _score(photos, rows, pool, test, config.seed)
        progress(total, total)
    points.append(_point(None, len(pool), 0, [accuracy], [recall]))
    return FewShot(
        data=dataset.name,
        backbone=config.backbone,
        size_px=config.side_px,
        class_names=dataset.class_names,
        test_images=len(test),
        points=tuple(points),
        interval=accuracy_interval(round(accuracy * len(test)), len(test)),
        extraction=found.extraction,
        seconds=round(time.perf_counter() - began, 3),
    )


def _checked(shots: Sequence[int], draws: int) -> tuple[int, ...]:
    if not shots or any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in shots):
        raise ConfigError("photos per class are whole numbers from 1", received=", ".join(map(str, shots)) or "none")
    if draws < 1:
        raise ConfigError("a curve needs at least one draw", received=draws)
    return tuple(sorted(set(shots)))


def _ordered(photos: Photos, pool: np.ndarray, *, seed: list[int]) -> list[np.ndarray]:
    """For each class its photos of the pool in random order, the first of each group of near copies only."""
    order = np.random.default_rng(seed).permutation(pool)
    _, first = np.unique(photos.copies[order], return_index=True)
    order = order[np.sort(first)]
    return [order[photos.labels[order] == label] for label in range(photos.class_count)]


def _score(photos: Photos, rows: np.ndarray, chosen: np.ndarray, test: np.ndarray, seed: int) -> tuple[float, float]:
    """Test accuracy and mean recall over classes of a head fitted on the ``chosen`` rows."""
    labels = photos.labels
    result = search_linear(
        rows[chosen], labels[chosen], None, None, photos.class_count, seed=seed, groups=photos.groups[chosen]
    )
    right = result.head.logits(rows[test]).argmax(axis=1) == labels[test]
    recalls = [right[labels[test] == label].mean() for label in np.unique(labels[test])]
    return float(right.mean()), float(np.mean(recalls))


def _point(
    per_class: int | None, images: int, short_classes: int, accuracies: list[float], recalls: list[float]
) -> Point:
    spread = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
    return Point(
        per_class=per_class,
        images=images,
        short_classes=short_classes,
        accuracies=tuple(accuracies),
        mean=float(np.mean(accuracies)),
        spread=spread,
        mean_per_class_accuracy=float(np.mean(recalls)),
    )
