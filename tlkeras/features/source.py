"""Feature vectors of audited images under one recipe: stored ones, and new ones in a pass that overlaps decoding."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tlkeras.backbones.frozen import Frozen
from tlkeras.data.pipeline import BATCH_SIZE, pixel_batches
from tlkeras.data.verdicts import Verdict
from tlkeras.engines import Runner, averaged, prepare
from tlkeras.errors import DataError, ImageError
from tlkeras.features.store import FeatureSpace, FeatureStore
from tlkeras.graphs import Network
from tlkeras.progress import Advance, Reporter

BATCH_ROWS = 2048
# What an interruption can cost, and how many vectors wait in memory: 2.6 MB for 1,280 features.
SHARD_ROWS = 512
Batches = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Extraction:
    """What a pass did.

    computed, reused: images pushed through the network, and images whose features were stored already.
    failed: index and error of files that could not be decoded; they have no features.
    engine: name of the engine, or None when nothing had to be computed; difference: see ``Engine``.
    """

    computed: int
    reused: int
    failed: tuple[tuple[int, ImageError], ...]
    engine: str | None
    difference: float | None
    seconds: float


@dataclass(frozen=True)
class Features:
    """Vectors of N images, D numbers each, views averaged: as one matrix where it fits in memory, else in batches.

    read: gives the vectors of rows int64 ``[n]`` in batches of at most so many, in the order in which they are stored.
    extraction: what they cost. overhead: bytes that are read at once, besides a batch.
    """

    count: int
    size: int
    read: Callable[[np.ndarray, int], Batches]
    extraction: Extraction
    overhead: int = 0

    @cached_property
    def matrix(self) -> np.ndarray:
        """All of them: float32 ``[N, D]``."""
        matrix = np.empty((self.count, self.size), np.float32)
        for rows, vectors in self.read(np.arange(self.count), 8 * BATCH_ROWS):
            matrix[rows] = vectors
        return matrix

    def batches(self, rows: np.ndarray, most: int = BATCH_ROWS) -> Batches:
        """``(rows [n], vectors float32 [n, D])`` of the images ``rows``, int64, in any order; n ≤ ``most``."""
        if "matrix" not in self.__dict__:
            return self.read(rows, most)
        return ((part, self.matrix[part]) for part in cut(rows, most))


def cut(rows: np.ndarray, most: int) -> list[np.ndarray]:
    """Rows in pieces of at most so many."""
    return [rows[start : start + most] for start in range(0, len(rows), most)]


class FeatureSource:
    """Gives features of images, through the store.

    ``spaces``: of the backbone, one per view; see ``FeatureSpace``.
    """

    def __init__(self, backbone: Frozen, spaces: Sequence[FeatureSpace], *, engine: str = "auto") -> None:
        self.backbone = backbone
        self.spaces = tuple(spaces)
        self.engine = engine

    def prepare(self) -> None:
        """Convert the network for its engine before the first image is there, unless it is converted already."""
        prepare(self.backbone, name=self.engine)

    def of(self, verdicts: Sequence[Verdict], reporter: Reporter) -> Features:
        """Features of images that the audit has kept, in their order.

        Raises: DataError when a file that was good a moment ago cannot be decoded any more; StorageError.
        """
        paths = [v.path for v in verdicts]
        keys = [v.sha256 for v in verdicts]
        stores = [FeatureStore(space) for space in self.spaces]
        with reporter.step("features") as progress:
            extraction = extract(paths, keys, stores, self.backbone, engine=self.engine, progress=progress)
        if extraction.failed:
            index, error = extraction.failed[0]
            raise DataError(
                f"{len(extraction.failed)} of {len(paths)} files changed after the audit, first '{paths[index]}'",
                received=error.rule,
                next_step="Start again; what was computed is kept.",
            )

        def read(rows: np.ndarray, most: int) -> Batches:
            for part in cut(stores[0].as_stored(keys, rows), most):
                chosen = [keys[row] for row in part]
                yield part, averaged([store.gather(chosen) for store in stores])

        return Features(len(keys), self.spaces[0].feature_size, read, extraction)


def extract(
    paths: Sequence[str],
    keys: Sequence[str],
    stores: Sequence[FeatureStore],
    backbone: Network,
    *,
    engine: str = "auto",
    batch_size: int = BATCH_SIZE,
    progress: Advance = lambda done, total: None,
) -> Extraction:
    """Make sure that every image has its vector in every store.

    ``keys``: content hash of each file. ``stores``: one per view of the same recipe. ``backbone``: that of the recipe.
    Finished vectors are stored in shards of ``SHARD_ROWS``, and what is finished when the pass is interrupted is stored
    too, so that the next call goes on from there. Memory does not grow with the number of images.

    Raises: StorageError when the disk refuses; ConfigError as ``open_engine`` does.
    """
    started = time.perf_counter()
    # One file of each content is enough.
    known = np.all([store.holds(keys) for store in stores], axis=0)
    missing = list({key: i for i, key in enumerate(keys) if not known[i]}.values())
    failed: list[tuple[int, ImageError]] = []
    space = stores[0].space
    views = [store.space.view for store in stores]
    runner = Runner(backbone, views, engine=engine, precision=space.precision)
    keys_waiting: list[str] = []
    views_waiting: list[list[np.ndarray]] = []
    done = 0

    def store_waiting() -> None:
        ready, columns = list(keys_waiting), list(zip(*views_waiting, strict=True))
        keys_waiting.clear()
        views_waiting.clear()
        for store, rows in zip(stores, columns, strict=False):  # no columns where nothing waits
            store.add(ready, np.concatenate(rows))

    try:
        batches = pixel_batches(
            [paths[i] for i in missing],
            space.size_px,
            space.fit,
            batch_size=batch_size,
            failed=lambda index, error: failed.append((missing[index], error)),
        )
        for indices, pixels in batches:
            keys_waiting += [keys[missing[i]] for i in indices]
            views_waiting.append(runner.views(pixels))
            if len(keys_waiting) >= SHARD_ROWS:
                store_waiting()
            done += len(indices)
            progress(done, len(missing))
    finally:
        store_waiting()
    return Extraction(
        computed=done,
        reused=len(keys) - len(missing),
        failed=tuple(failed),
        engine=runner.engine.name if runner.engine else None,
        difference=runner.engine.difference if runner.engine else None,
        seconds=time.perf_counter() - started,
    )
