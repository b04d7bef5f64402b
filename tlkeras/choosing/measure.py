"""What one network is worth on one set of photos, measured on its frozen features.

The photos are audited and split as training does it, so that its test stays unseen.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tlkeras.backbones.frozen import Frozen, of_network
from tlkeras.backbones.network import random_twin
from tlkeras.choosing.transferability import label_agreement, logme, statistics_shift
from tlkeras.data.audit import audit
from tlkeras.data.dataset import LabelledImages
from tlkeras.data.pipeline import pixel_batches
from tlkeras.data.splits import split
from tlkeras.data.verdicts import Verdict
from tlkeras.engines import Run, open_engine
from tlkeras.errors import DataError, FormatError, StorageError
from tlkeras.evaluation.metrics import accuracy_interval
from tlkeras.features.source import FeatureSource
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.search import search_linear
from tlkeras.json_csv import read_json
from tlkeras.progress import Reporter
from tlkeras.storage import cache_root, write_json
from tlkeras.trained import versions
from tlkeras.training.config import TrainConfig
from tlkeras.training.fit import source_for

BATCHES = (1, 32)
# Photos from which a random twin takes its normalisation statistics, and on which engines are compared and timed.
_FIRST = 32
_MIN_SECONDS = 1.0
_MIN_ROUNDS = 5


@dataclass(frozen=True)
class Photos:
    """Labelled images with their verdicts, groups and copies (int64 ``[N]``, see ``Audit``), aligned."""

    images: LabelledImages
    verdicts: tuple[Verdict, ...]
    groups: np.ndarray
    copies: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """int32 ``[N]``."""
        return self.images.labels

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return len(self.images.class_names)

    def __len__(self) -> int:
        return len(self.verdicts)

    def subset(self, chosen: np.ndarray) -> Photos:
        """The photos at indices, or where a mask is true."""
        indices = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        verdicts = tuple(self.verdicts[int(i)] for i in indices)
        return Photos(self.images.subset(indices), verdicts, self.groups[indices], self.copies[indices])

    def in_splits(self, *names: str) -> Photos:
        """The photos of some splits."""
        return self.subset(np.isin(self.images.splits, names))


def audited(dataset: LabelledImages, config: TrainConfig, reporter: Reporter) -> Photos:
    """All photos that the audit keeps, each in the split that ``tlkeras train`` with the same options puts it in.

    Without a ``test_fraction`` no test is split off.

    Raises: DataError, ConfigError: see ``audit`` and ``split``.
    """
    with reporter.step("audit") as progress:
        checked = audit(dataset, progress=progress)
    reporter.say(checked.summary())
    verdicts = tuple(checked.kept_verdicts)
    images = split(
        checked.kept,
        checked.groups,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        keys=[verdict.sha256 for verdict in verdicts],
    )
    return Photos(images, verdicts, checked.groups, checked.copies)


def stratified(labels: np.ndarray, count: int, *, seed: int, least: int = 5) -> np.ndarray:
    """Sorted indices of about ``count`` images whose classes keep their shares; all where there are no more.

    Every class keeps ``least`` images, or all that it has, so that small classes can be cross-validated: ``count``
    is exceeded where that takes it.
    """
    if len(labels) <= count:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: max(round(count * len(members) / len(labels)), least)])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class Probe:
    """A linear head on frozen features, judged by photos that it had not seen, in folds.

    ``right`` bool [M]: which of the photos that can be held out it got right; the same photos for every network.
    ``accuracy`` with ``interval`` (95 %) in 0..1, ``log_loss`` in nats.
    ``agreement``: see ``label_agreement``.
    """

    right: np.ndarray
    accuracy: float
    interval: tuple[float, float]
    log_loss: float
    agreement: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.interval),
            "log_loss": self.log_loss,
            "neighbour_agreement": self.agreement,
        }


@dataclass(frozen=True)
class Measured:
    """One network on the photos.

    ``probe`` and ``logme`` are those of its pretrained features, ``random`` the probe of its random twin's.
    ``parameters`` and ``megabytes`` (as stored) are without a head, ``ms`` per image by batch size of the network only.
    They are measured with ``engine``, whose answers differ from Keras' by at most ``difference`` of the largest
    feature. ``shift``: see ``statistics_shift``.
    """

    name: str
    backbone: str
    weights: str
    size_px: int
    feature_size: int
    parameters: int
    megabytes: float
    ms: dict[int, float]
    engine: str
    difference: float
    logme: float
    shift: float | None
    probe: Probe
    random: Probe
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "backbone": self.backbone,
            "weights": self.weights,
            "size_px": self.size_px,
            "features": self.feature_size,
            "parameters": self.parameters,
            "megabytes": self.megabytes,
            "ms_per_image": {f"batch_{batch}": value for batch, value in self.ms.items()},
            "engine": self.engine,
            "difference_from_keras": self.difference,
            "logme": self.logme,
            "statistics_shift": self.shift,
            **self.probe.to_json(),
            "random_weights": self.random.to_json(),
            "seconds": self.seconds,
        }


def measure(name: str, config: TrainConfig, photos: Photos, reporter: Reporter) -> Measured:
    """Features of ``photos`` by the network of ``config`` and by its random twin; probes, LogME and times.

    ``name``: what the network is called among the others.

    Raises: WeightsError, ConfigError for a network that cannot be had; DataError, StorageError.
    """
    began = time.perf_counter()
    source = source_for(config)
    backbone = source.backbone
    features = source.of(photos.verdicts, reporter).matrix
    pixels = _first_pixels(config, photos.verdicts)
    engine = open_engine(backbone, name=config.engine)
    ms = {batch: milliseconds(engine.run, pixels, batch) for batch in BATCHES}
    shift, twin = _told_by_keras(backbone, pixels, config.seed)
    spaces = [replace(space, weights_sha256=twin.sha256, precision="fp32") for space in source.spaces]
    # Converting a network costs more than it saves for one that is never used again.
    of_twin = FeatureSource(twin, spaces, engine="tensorflow").of(photos.verdicts, reporter).matrix
    return Measured(
        name=name,
        backbone=config.backbone,
        weights=config.weights,
        size_px=config.side_px,
        feature_size=features.shape[1],
        parameters=backbone.row.parameters,
        megabytes=round(sum(values.nbytes for values in backbone.arrays.values()) / 1e6, 2),
        ms=ms,
        engine=engine.name,
        difference=engine.difference,
        logme=logme(features, photos.labels, photos.class_count),
        shift=shift,
        probe=probe(features, photos, seed=config.seed),
        random=probe(of_twin, photos, seed=config.seed),
        seconds=round(time.perf_counter() - began, 3),
    )


def probe(features: np.ndarray, photos: Photos, *, seed: int) -> Probe:
    """Judge features float32 [N, D] of the photos by the product's own linear head, cross-validated.

    Raises: DataError when no photo can be held out.
    """
    labels = photos.labels
    result = search_linear(unit_rows(features), labels, None, None, photos.class_count, seed=seed, groups=photos.groups)
    if not len(result.held_out_labels):
        raise DataError("a comparison needs two different photos of some class", received="one of each at most")
    right = result.held_out_logits.argmax(axis=1) == result.held_out_labels
    chosen = [row["log_loss"] for row in result.curve if row["strength"] == result.strength]
    return Probe(
        right=right,
        accuracy=float(right.mean()),
        interval=accuracy_interval(int(right.sum()), len(right)),
        log_loss=chosen[0],
        agreement=label_agreement(features, labels, photos.class_count, groups=photos.groups),
    )


def milliseconds(run: Run, pixels: np.ndarray, batch: int) -> float:
    """Milliseconds per image of ``run`` on batches of ``batch`` images: the best of several rounds.

    The best, because whatever else the machine does can only make a round longer.
    """
    rows = np.ascontiguousarray(np.resize(pixels, (batch, *pixels.shape[1:])), np.float32)
    run(rows)
    best, spent, rounds = float("inf"), 0.0, 0
    while rounds < _MIN_ROUNDS or spent < _MIN_SECONDS:
        started = time.perf_counter()
        run(rows)
        seconds = time.perf_counter() - started
        best, spent, rounds = min(best, seconds), spent + seconds, rounds + 1
    return round(1000 * best / batch, 3)


def _told_by_keras(backbone: Frozen, pixels: np.ndarray, seed: int) -> tuple[float | None, Frozen]:
    """The shift of statistics between ``pixels`` and the pretraining, and the random twin that starts from them.

    Both need Keras. What it said is kept in the cache: the next comparison on the same photos asks for it only where
    the twin's features are missing.
    """
    asked = [backbone.sha256, backbone.size_px, seed, versions()["keras"], hashlib.sha256(pixels.tobytes()).hexdigest()]
    note = cache_root() / "twins" / f"{hashlib.sha256(repr(asked).encode()).hexdigest()[:32]}.json"

    def build() -> Any:
        return random_twin(backbone.row.name, pixels, seed=seed)

    with contextlib.suppress(OSError, FormatError):
        known = read_json(note, {"weights_sha256": str, "statistics_shift": (float, None)})
        return known["statistics_shift"], Frozen(
            backbone.row.name, backbone.size_px, known["weights_sha256"], build=build
        )
    shift, twin = statistics_shift(backbone.network, pixels), of_network(backbone.row.name, build())
    with contextlib.suppress(StorageError):
        write_json(note, {"format_version": 1, "weights_sha256": twin.sha256, "statistics_shift": shift})
    return shift, twin


def _first_pixels(config: TrainConfig, verdicts: Sequence[Verdict]) -> np.ndarray:
    """Fitted pixels float32 [n, S, S, 3] of up to 32 photos, spread over all of them and so over the classes."""
    places = np.unique(np.linspace(0, len(verdicts) - 1, _FIRST).round().astype(int))
    paths = [verdicts[i].path for i in places]
    return next(pixel_batches(paths, config.side_px, config.fit, batch_size=len(paths)))[1]
