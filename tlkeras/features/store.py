"""The feature store: one vector per image and recipe, in checksummed shards that appear atomically on disk.

A *space* is one recipe (backbone, weights, size, fit, …); its folder holds pairs of files, ``<name>.npy`` with
float32 ``[n, D]`` and ``<name>.json`` with the ``n`` content hashes and the SHA-256 of the first. The ``.json``
comes last, so a pair is complete when it is there. Two processes may write at once: names are unique, and a
vector that both computed is the same in both.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tlkeras.storage import cache_root, sha256_of, size_of, write_bytes, write_json

# Raise it whenever the same recipe would give other numbers: stored vectors are then computed again.
RECIPE_VERSION = 1


@dataclass(frozen=True)
class FeatureSpace:
    """Everything but the image that decides what a feature vector is.

    view: ``"plain"``, or ``"mirrored"`` for the image flipped left to right.
    precision: ``"fp32"``, or ``"bf16"`` when that was asked for.
    """

    backbone: str
    weights_sha256: str
    size_px: int
    fit: str
    feature_size: int
    view: str = "plain"
    precision: str = "fp32"

    @property
    def key(self) -> str:
        """A short name for the folder: the recipe's hash, behind words that people can read."""
        recipe = json.dumps([RECIPE_VERSION, asdict(self)], sort_keys=True)
        digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        return f"{self.backbone}-{self.size_px}-{self.fit}-{self.view}-{digest}"


class FeatureStore:
    """Stored vectors of one space. Opening it verifies every shard; a damaged one is dropped with a warning."""

    def __init__(self, space: FeatureSpace, root: Path | None = None) -> None:
        self.space = space
        self.folder = (root or cache_root() / "features") / space.key
        self._shards: list[np.ndarray] = []
        self._where: dict[str, tuple[int, int]] = {}
        if not (self.folder / "space.json").exists():
            write_json(self.folder / "space.json", {"recipe_version": RECIPE_VERSION, **asdict(space)})
        for index in sorted(self.folder.glob("shard-*.json")):
            self._open_shard(index)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def add(self, keys: Sequence[str], features: np.ndarray) -> None:
        """Write one shard: content hashes and float32 ``[len(keys), D]``; it appears whole or not at all.

        Raises: StorageError when the disk refuses; what was stored before stays.
        """
        if features.shape != (len(keys), self.space.feature_size):
            raise ValueError(f"features of shape {features.shape} for {len(keys)} keys in {self.space}")
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(features, np.float32), allow_pickle=False)
        data = buffer.getvalue()
        name = f"shard-{uuid.uuid4().hex}"
        write_bytes(self.folder / f"{name}.npy", data)
        index = {"sha256": hashlib.sha256(data).hexdigest(), "keys": list(keys)}
        write_json(self.folder / f"{name}.json", index)
        self._map(self.folder / f"{name}.npy", list(keys))

    def gather(self, keys: Sequence[str]) -> np.ndarray:
        """The vectors of these content hashes, float32 ``[len(keys), D]``, in their order.

        Raises: KeyError for a hash that is not stored.
        """
        features = np.empty((len(keys), self.space.feature_size), np.float32)
        for row, key in enumerate(keys):
            shard, at = self._where[key]
            features[row] = self._shards[shard][at]
        return features

    def _open_shard(self, index: Path) -> None:
        data = index.with_suffix(".npy")
        try:
            described = json.loads(index.read_text())
            if sha256_of(data) != described["sha256"]:
                raise ValueError("checksum differs")
            self._map(data, described["keys"])
        # Whatever is wrong with a shard (half a file, foreign content), it can be computed again.
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(
                f"stored features '{data.name}' are damaged ({error}) and will be computed again", stacklevel=2
            )
            index.unlink(missing_ok=True)
            data.unlink(missing_ok=True)

    def _map(self, data: Path, keys: list[str]) -> None:
        shard = np.load(data, mmap_mode="r", allow_pickle=False)
        if shard.shape != (len(keys), self.space.feature_size):
            raise ValueError(f"shape {shard.shape} for {len(keys)} keys")
        self._where.update({key: (len(self._shards), row) for row, key in enumerate(keys)})
        self._shards.append(shard)


def stored_spaces(root: Path | None = None) -> Iterator[tuple[dict[str, object], int, int]]:
    """What the cache holds: for each space its recipe, number of vectors and bytes on disk."""
    for description in sorted((root or cache_root() / "features").glob("*/space.json")):
        folder = description.parent
        count = sum(len(json.loads(index.read_text())["keys"]) for index in folder.glob("shard-*.json"))
        yield json.loads(description.read_text()), count, size_of(folder)
