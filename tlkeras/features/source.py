"""Feature vectors of audited images under one recipe: stored ones, and new ones in a pass that overlaps decoding."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tlkeras.backbones.frozen import Frozen
from tlkeras.data.pipeline import BATCH_SIZE, pixel_batches
from tlkeras.data.squares import SquareQueue
from tlkeras.data.verdicts import Verdict
from tlkeras.engines import Runner, averaged, prepare
from tlkeras.errors import DataError, ImageError
from tlkeras.features.store import FeatureSpace, FeatureStore
from tlkeras.graphs import Network
from tlkeras.images.resize import fit_to_square
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

    def begin(self) -> Pass:
        """A pass of new images."""
        return Pass([FeatureStore(space) for space in self.spaces], self.backbone, self.engine)

    def of(self, verdicts: Sequence[Verdict], reporter: Reporter, ahead: Ahead | None = None) -> Features:
        """Features of images that the audit has kept, in their order. ``ahead``: what was computed beside the audit.

        Raises: DataError when a file that was good a moment ago cannot be decoded any more; StorageError.
        """
        paths = [v.path for v in verdicts]
        keys = [v.sha256 for v in verdicts]
        with reporter.step("features") as progress:
            begun = ahead.finish(progress, len(set(keys))) if ahead else self.begin()
            extraction = extract(paths, keys, begun, progress=progress)
        if extraction.failed:
            index, error = extraction.failed[0]
            raise DataError(
                f"{len(extraction.failed)} of {len(paths)} files changed after the audit, first '{paths[index]}'",
                received=error.rule,
                next_step="Start again; what was computed is kept.",
            )
        stores = begun.stores

        def read(rows: np.ndarray, most: int) -> Batches:
            for part in cut(stores[0].as_stored(keys, rows), most):
                chosen = [keys[row] for row in part]
                yield part, averaged([store.gather(chosen) for store in stores])

        return Features(len(keys), self.spaces[0].feature_size, read, extraction)


class Pass:
    """New features on their way into the stores, one per view of the same recipe, in shards of ``SHARD_ROWS``.

    ``backbone``: that of the recipe. computed: the content hashes of what it has seen.
    """

    def __init__(self, stores: Sequence[FeatureStore], backbone: Network, engine: str = "auto") -> None:
        self.started = time.perf_counter()
        self.stores, self.space = stores, stores[0].space
        views = [store.space.view for store in stores]
        self.runner = Runner(backbone, views, engine=engine, precision=self.space.precision)
        self.computed: set[str] = set()
        self._keys: list[str] = []
        self._views: list[list[np.ndarray]] = []

    def missing(self, keys: Sequence[str]) -> list[int]:
        """The indices of what has no vector, of each content one."""
        known = np.all([store.holds(keys) for store in self.stores], axis=0)
        return list({key: i for i, key in enumerate(keys) if not known[i] and key not in self.computed}.values())

    def add(self, keys: Sequence[str], pixels: np.ndarray) -> None:
        """Compute fitted pixels float32 ``[n, S, S, 3]``. Raises: StorageError, ConfigError as ``open_engine`` does."""
        self._views.append(self.runner.views(pixels))
        self._keys += keys
        self.computed.update(keys)
        if len(self._keys) >= SHARD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Store what waits. Raises: StorageError."""
        ready, columns = self._keys, list(zip(*self._views, strict=True))
        self._keys, self._views = [], []
        for store, rows in zip(self.stores, columns, strict=False):  # no columns where nothing waits
            store.add(ready, np.concatenate(rows))


class Ahead:
    """Features of the photos that an audit decodes, computed beside it as soon as the source is there.

    So each new photo is decoded once. ``source``: gives it, when it is ready. ``hand_on``: for ``audit``. Leaving the
    context ends it; what was computed is stored.
    """

    def __init__(self, source: Callable[[], FeatureSource], size_px: int, fit: str) -> None:
        self._source, self._size_px, self._fit = source, size_px, fit
        self._squares = SquareQueue(size_px)
        self._result: Future[Pass] = Future()
        self._begun: Pass | None = None
        self._left = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        self._squares.stop()
        self._squares.close()
        # Without a source nothing is at stake, and to make one takes seconds.
        if self._begun is not None:
            self._thread.join()

    def hand_on(self, key: str, pixels: np.ndarray) -> None:
        """Take a decoded picture, uint8 ``[H, W, 3]``."""
        self._squares.put(key, fit_to_square(pixels, self._size_px, self._fit))

    def finish(self, progress: Advance, total: int) -> Pass:
        """Wait for what was handed on.

        Raises: what the source raises; StorageError, ConfigError as ``Pass.add``.
        """
        self._squares.close()
        while self._thread.is_alive():
            self._thread.join(0.1)
            if self._begun is not None:
                progress(min(len(self._begun.computed), total), total)
        return self._result.result()

    def _run(self) -> None:
        try:
            begun = self._begun = self._source().begin()
            try:
                for keys, pixels in self._squares.batches(BATCH_SIZE):
                    if self._left:
                        break
                    new = begun.missing(keys)
                    if new:
                        begun.add([keys[i] for i in new], pixels[new])
            finally:
                begun.flush()
            self._result.set_result(begun)
        # Whatever it is, it is raised where the result is asked for.
        except BaseException as error:
            self._result.set_exception(error)
        finally:
            self._squares.stop()


def extract(
    paths: Sequence[str],
    keys: Sequence[str],
    begun: Pass,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Advance = lambda done, total: None,
) -> Extraction:
    """Make sure that every image has its vector in every store. ``keys``: content hash of each file.

    What is finished when the pass is interrupted is stored, so that the next call goes on from there. Memory does not
    grow with the number of images.

    Raises: StorageError when the disk refuses; ConfigError as ``open_engine`` does.
    """
    missing = begun.missing(keys)
    failed: list[tuple[int, ImageError]] = []
    # Of what was computed already, as far as it is asked for.
    done = len(begun.computed.intersection(keys))
    total = done + len(missing)
    try:
        batches = pixel_batches(
            [paths[i] for i in missing],
            begun.space.size_px,
            begun.space.fit,
            batch_size=batch_size,
            failed=lambda index, error: failed.append((missing[index], error)),
        )
        if done:
            progress(done, total)
        for indices, pixels in batches:
            begun.add([keys[missing[i]] for i in indices], pixels)
            done += len(indices)
            progress(done, total)
    finally:
        begun.flush()
    engine = begun.runner.engine
    return Extraction(
        computed=done,
        reused=len(keys) - total,
        failed=tuple(failed),
        engine=engine.name if engine else None,
        difference=engine.difference if engine else None,
        seconds=time.perf_counter() - begun.started,
    )
