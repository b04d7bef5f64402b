"""One pass of every new image through the frozen backbone, overlapped with decoding."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tlkeras.data.pipeline import BATCH_SIZE, pixel_batches
from tlkeras.engines import Runner
from tlkeras.errors import ImageError
from tlkeras.features.store import FeatureStore
from tlkeras.graphs import Network
from tlkeras.progress import Advance

# What an interruption can cost, and how many vectors wait in memory: 2.6 MB for 1,280 features.
SHARD_ROWS = 512


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

    ``keys``: content hash of each file. ``stores``: one per view of the same recipe. ``backbone``: that
    of the recipe. Finished vectors are stored in shards of
    ``SHARD_ROWS``, and what is finished when the pass is interrupted is stored too, so that the next call
    goes on from there. Memory does not grow with the number of images.

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
    waiting = _Waiting(stores)
    done = 0
    try:
        batches = pixel_batches(
            [paths[i] for i in missing],
            space.size_px,
            space.fit,
            batch_size=batch_size,
            failed=lambda index, error: failed.append((missing[index], error)),
        )
        for indices, pixels in batches:
            waiting.add([keys[missing[i]] for i in indices], runner.views(pixels))
            done += len(indices)
            progress(done, len(missing))
    finally:
        waiting.flush()
    return Extraction(
        computed=done,
        reused=len(keys) - len(missing),
        failed=tuple(failed),
        engine=runner.engine.name if runner.engine else None,
        difference=runner.engine.difference if runner.engine else None,
        seconds=time.perf_counter() - started,
    )


class _Waiting:
    """Vectors that wait for their shard to fill."""

    def __init__(self, stores: Sequence[FeatureStore]) -> None:
        self.stores = stores
        self.keys: list[str] = []
        self.views: list[list[np.ndarray]] = [[] for _ in stores]

    def add(self, keys: Sequence[str], views: Sequence[np.ndarray]) -> None:
        self.keys += keys
        for rows, features in zip(self.views, views, strict=True):
            rows.append(features)
        if len(self.keys) >= SHARD_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self.keys:
            return
        keys, views = self.keys, self.views
        self.keys, self.views = [], [[] for _ in self.stores]
        for store, rows in zip(self.stores, views, strict=True):
            store.add(keys, np.concatenate(rows))
