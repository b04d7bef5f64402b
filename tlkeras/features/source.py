"""Feature vectors of audited images under one recipe, stored ones and new ones alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tlkeras.data.pipeline import ImageFile
from tlkeras.data.verdicts import Verdict
from tlkeras.engines import prepare
from tlkeras.errors import DataError
from tlkeras.features.extract import Extraction, extract
from tlkeras.features.store import FeatureSpace, FeatureStore
from tlkeras.progress import Reporter


@dataclass(frozen=True)
class Features:
    """Vectors of images: ``matrix`` float32 ``[N, D]``, views averaged; ``extraction`` says what it cost."""

    matrix: np.ndarray
    extraction: Extraction


class FeatureSource:
    """Gives features of images, through the store.

    ``network``: builds the frozen Keras backbone (pixels in 0..255 → features) when it is first needed.
    ``spaces``: one per view; see ``FeatureSpace``.
    """

    def __init__(self, network: Callable[[], Any], spaces: Sequence[FeatureSpace], *, engine: str = "auto") -> None:
        self._build = network
        self.spaces = tuple(spaces)
        self.engine = engine

    @cached_property
    def network(self) -> Any:
        """The frozen Keras backbone."""
        return self._build()

    def prepare(self) -> None:
        """Build the network and convert it for its engine before the first image is there."""
        prepare(self.network, self.spaces[0].weights_sha256, name=self.engine)

    def of(self, verdicts: Sequence[Verdict], reporter: Reporter) -> Features:
        """Features of images that the audit has kept, in their order.

        Raises: DataError when a file that was good a moment ago cannot be decoded any more; StorageError.
        """
        files = [ImageFile(v.path, v.orientation, in_graph=not v.unserved) for v in verdicts]
        keys = [v.sha256 for v in verdicts]
        stores = [FeatureStore(space) for space in self.spaces]
        with reporter.step("features") as progress:
            extraction = extract(files, keys, stores, lambda: self.network, engine=self.engine, progress=progress)
        if extraction.failed:
            index, error = extraction.failed[0]
            raise DataError(
                f"{len(extraction.failed)} of {len(files)} files changed after the audit, first '{files[index].path}'",
                received=error.rule,
                next_step="Start again; what was computed is kept.",
            )
        matrix = stores[0].gather(keys)
        for store in stores[1:]:
            matrix += store.gather(keys)
        return Features(matrix / np.float32(len(stores)), extraction)
