"""Feature vectors of audited images under one recipe, stored ones and new ones alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tlkeras.backbones.frozen import Frozen
from tlkeras.data.verdicts import Verdict
from tlkeras.engines import averaged, prepare
from tlkeras.errors import DataError
from tlkeras.features.extract import Extraction, extract
from tlkeras.features.store import FeatureSpace, FeatureStore
from tlkeras.progress import Reporter

BATCH_ROWS = 2048
Batches = Iterator[tuple[np.ndarray, np.ndarray]]


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
