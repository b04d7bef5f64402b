"""The feature store: one vector per image and recipe, in checksummed shards that appear atomically on disk.

A *space* is one recipe (backbone, weights, size, fit, …); its folder holds pairs of files, ``<name>.npy`` with
float32 ``[n, D]`` and ``<name>.json`` with the ``n`` content hashes and the SHA-256 of the first. The ``.json``
comes last, so a pair is complete when it is there. Two processes may write at once: names are unique, and a
vector that both computed is the same in both. A ``link-<hash>.json`` names a folder of Parquet shards
(``tlkeras.features.shards``), whose vectors are read from there.
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

from tlkeras.errors import DataError
from tlkeras.features.shards import ShardSet
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
        self._shards: list[np.ndarray | tuple[ShardSet, int]] = []
        self._where: dict[str, tuple[int, int]] = {}
        if not (self.folder / "space.json").exists():
            write_json(self.folder / "space.json", {"recipe_version": RECIPE_VERSION, **asdict(space)})
        for index in sorted(self.folder.glob("shard-*.json")):
            self._open_shard(index)
        for link in sorted(self.folder.glob("link-*.json")):
            self._open_link(link)

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
        places = np.array([self._where[key] for key in keys], np.int64).reshape(-1, 2)
        # Shard by shard: one of a large job is decoded as a whole.
        order = np.argsort(places[:, 0], kind="stable")
        starts = np.flatnonzero(np.diff(places[order, 0], prepend=-1))
        for rows in np.split(order, starts[1:]) if len(order) else []:
            shard = self._shards[places[rows[0], 0]]
            vectors = shard[0].vectors(shard[1]) if isinstance(shard, tuple) else shard
            features[rows] = vectors[places[rows, 1]]
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

    def _open_link(self, link: Path) -> None:
        try:
            shards = ShardSet(json.loads(link.read_text())["folder"])
            found = shards.columns(["key", "status"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"linked features cannot be read any more ({error}) and are forgotten", stacklevel=2)
            link.unlink(missing_ok=True)
            return
        usable = iter(zip(found["key"], found["status"], strict=True))
        for number, shard in enumerate(shards.shards):
            for row in range(shard.rows):
                key, status = next(usable)
                if status != "rejected" and key not in self._where:
                    self._where[key] = (len(self._shards), row)
            self._shards.append((shards, number))

    def _map(self, data: Path, keys: list[str]) -> None:
        shard = np.load(data, mmap_mode="r", allow_pickle=False)
        if shard.shape != (len(keys), self.space.feature_size):
            raise ValueError(f"shape {shard.shape} for {len(keys)} keys")
        self._where.update({key: (len(self._shards), row) for row, key in enumerate(keys)})
        self._shards.append(shard)


def link_shards(space: FeatureSpace, folder: Path, root: Path | None = None) -> None:
    """Let the store of a space find the vectors of a finished folder of Parquet shards, which stay where they are.

    Raises: DataError when the shards are of another space; StorageError.
    """
    if ShardSet(str(folder)).space != asdict(space):
        raise DataError("the features were made by another recipe", received=f"'{folder}'")
    store = FeatureStore(space, root)
    name = hashlib.sha256(str(folder.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
    write_json(store.folder / f"link-{name}.json", {"folder": str(folder.absolute())})


def stored_spaces(root: Path | None = None) -> Iterator[tuple[dict[str, object], int, int]]:
    """What the cache holds: for each space its recipe, number of vectors and bytes on disk."""
    for description in sorted((root or cache_root() / "features").glob("*/space.json")):
        folder = description.parent
        count = sum(len(json.loads(index.read_text())["keys"]) for index in folder.glob("shard-*.json"))
        yield json.loads(description.read_text()), count, size_of(folder)
