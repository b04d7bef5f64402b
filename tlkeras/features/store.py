"""The feature store: one vector per image and recipe, in checksummed shards that appear atomically on disk.

A *space* is one recipe (backbone, weights, size, fit, …); its folder holds pairs of files, ``<name>.npy`` with
float32 ``[n, D]`` and ``<name>.json`` with the ``n`` content hashes and the SHA-256 of the first. The ``.json``
comes last, so a pair is complete when it is there. Two processes may write at once: names are unique, and a
vector that both computed is the same in both. A ``link-<hash>.json`` names a folder of Parquet shards
(``tlkeras.features.shards``), whose vectors are read from there; ``link-<hash>.npy`` says where each image's is.
``verified.json`` tells which files had their checksum, as they are now, before.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.backbones.frozen import Frozen
from tlkeras.errors import DataError, FormatError, StorageError
from tlkeras.features.shards import ShardSet
from tlkeras.graphs import RECIPE_VERSION
from tlkeras.json_csv import read_json
from tlkeras.locks import alone_in
from tlkeras.storage import cache_root, sha256_of, size_of, write_bytes, write_json

# So many shards of fewer rows than this become one: each costs an open file, and a search for its name.
SMALL_SHARDS = 16
SMALL_ROWS = 4096
_VERIFIED = "verified.json"
_PLACE = np.dtype([("key", "S32"), ("shard", "<i4"), ("row", "<i4")])


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

    @classmethod
    def of(cls, backbone: Frozen, *, fit: str, precision: str = "fp32") -> FeatureSpace:
        """The plain space of a backbone."""
        return cls(
            backbone.row.name, backbone.sha256, backbone.size_px, fit, backbone.feature_size, precision=precision
        )

    @property
    def key(self) -> str:
        """A short name for the folder: the recipe's hash, behind words that people can read."""
        recipe = json.dumps([RECIPE_VERSION, asdict(self)], sort_keys=True)
        digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        return f"{self.backbone}-{self.size_px}-{self.fit}-{self.view}-{digest}"

    def views(self, names: Sequence[str]) -> tuple[FeatureSpace, ...]:
        """The same recipe for each of these views."""
        return tuple(replace(self, view=name) for name in names)


class FeatureStore:
    """Stored vectors of one space. Opening it verifies shards that it has not seen; a damaged one is dropped."""

    def __init__(self, space: FeatureSpace, root: Path | None = None) -> None:
        self.space = space
        self.folder = (root or cache_root() / "features") / space.key
        self._shards: list[np.ndarray] = []
        self._where: dict[str, tuple[int, int]] = {}
        if not (self.folder / "space.json").exists():
            write_json(self.folder / "space.json", {"recipe_version": RECIPE_VERSION, **asdict(space)})
        self._links: list[_Link] = []
        self._verified = self._read_verified()
        before = dict(self._verified)
        rows: dict[Path, int] = {}
        # A second look: what another process made one of while we read has another name by then.
        for _ in range(2):
            rows |= {path: self._open_shard(path) for path in self._indices() if path not in rows}
        self._verified = {name: mark for name, mark in self._verified.items() if (self.folder / name).exists()}
        self._compact([path for path, count in rows.items() if 0 < count < SMALL_ROWS])
        if self._verified != before:
            # A cache that cannot be written is read all the same.
            with contextlib.suppress(StorageError):
                write_json(self.folder / _VERIFIED, self._verified)
        self._links = [link for path in sorted(self.folder.glob("link-*.json")) if (link := self._open_link(path))]

    def __len__(self) -> int:
        return len(self._where) + sum(len(link.places) for link in self._links)

    def __contains__(self, key: str) -> bool:
        return bool(self.holds([key])[0])

    def holds(self, keys: Sequence[str]) -> np.ndarray:
        """Which of these content hashes have a vector, bool ``[len(keys)]``."""
        found = np.array([key in self._where for key in keys], bool)
        for link in self._links:
            found[~found] = link.find([key for key, known in zip(keys, found, strict=True) if not known]) >= 0
        return found

    def add(self, keys: Sequence[str], features: np.ndarray) -> None:
        """Write one shard: content hashes and float32 ``[len(keys), D]``; it appears whole or not at all.

        Raises: StorageError when the disk refuses; what was stored before stays.
        """
        if features.shape != (len(keys), self.space.feature_size):
            raise ValueError(f"features of shape {features.shape} for {len(keys)} keys in {self.space}")
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(features, np.float32, order="C"), allow_pickle=False)
        data = buffer.getvalue()
        name = f"shard-{uuid.uuid4().hex}"
        write_bytes(self.folder / f"{name}.npy", data)
        index = {"sha256": hashlib.sha256(data).hexdigest(), "keys": list(keys)}
        write_json(self.folder / f"{name}.json", index)
        self._map(self.folder / f"{name}.npy", list(keys))

    def gather(self, keys: Sequence[str]) -> np.ndarray:
        """The vectors of these content hashes, float32 ``[len(keys), D]``, in their order.

        Raises: KeyError for a hash that is not stored; DataError for a linked shard that went missing or is damaged.
        """
        features = np.empty((len(keys), self.space.feature_size), np.float32)
        places = np.array([self._where.get(key, (-1, 0)) for key in keys], np.int64).reshape(-1, 2)
        for number, rows in _by_shard(places[:, 0]):
            if number >= 0:
                features[rows] = self._shards[number][places[rows, 1]]
        left = np.flatnonzero(places[:, 0] < 0)
        for link in self._links:
            found = link.find([keys[int(row)] for row in left])
            link.read(found[found >= 0], features, left[found >= 0])
            left = left[found < 0]
        if len(left):
            raise KeyError(keys[int(left[0])])
        return features

    def as_stored(self, keys: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """``rows``, int64 places in ``keys``, in the order in which their vectors are stored: each shard is read once.

        Raises: KeyError for a hash that is not stored.
        """
        chosen = [keys[int(row)] for row in rows]
        places = np.array([(0, *self._where.get(key, (-1, 0))) for key in chosen], np.int64).reshape(-1, 3)
        left = np.flatnonzero(places[:, 1] < 0)
        for number, link in enumerate(self._links, start=1):
            found = link.find([chosen[int(row)] for row in left])
            at = link.places[found[found >= 0]]
            places[left[found >= 0]] = np.stack([np.full(len(at), number), at["shard"], at["row"]], axis=1)
            left = left[found < 0]
        if len(left):
            raise KeyError(chosen[int(left[0])])
        return np.asarray(rows)[np.lexsort(places.T[::-1])]

    def _indices(self) -> list[Path]:
        return sorted(self.folder.glob("shard-*.json"))

    def _read_verified(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / _VERIFIED)
        except (OSError, ValueError):
            return {}  # everything is hashed once more

    def _open_shard(self, index: Path) -> int:
        """Find the vectors of a shard; returns how many rows it has, 0 where it cannot be used."""
        data = index.with_suffix(".npy")
        try:
            described = read_json(index, {"sha256": str, "keys": [str]})
            mark = _mark(data)
            if self._verified.get(data.name) != mark:
                if sha256_of(data) != described["sha256"]:
                    raise ValueError("checksum differs")
                self._verified[data.name] = mark
            self._map(data, described["keys"])
            return len(described["keys"])
        # Whatever is wrong with a shard (half a file, foreign content), it can be computed again.
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Without its index, another process has just made it part of a larger shard.
            if index.exists():
                _warn(f"stored features '{data.name}' are damaged ({error}) and will be computed again")
                index.unlink(missing_ok=True)
                data.unlink(missing_ok=True)
        # Too many open files, a disk that does not answer: the shard is as good as it was.
        except OSError as error:
            _warn(f"stored features '{data.name}' cannot be read now ({error.strerror or error}) and are not used")
        return 0

    def _compact(self, small: Sequence[Path]) -> None:
        """Make one shard of many small ones; wherever this ends, every vector lies in a whole shard."""
        if len(small) < SMALL_SHARDS:
            return
        numbers = {Path(getattr(shard, "filename", "")).stem: number for number, shard in enumerate(self._shards)}
        wanted = {numbers[path.stem] for path in small}
        keys = [key for key, (number, _) in self._where.items() if number in wanted]
        with contextlib.suppress(OSError), alone_in(self.folder) as alone:
            if not alone:
                return
            self.add(keys, self.gather(keys))
            self._verified[Path(self._shards[-1].filename).name] = _mark(Path(self._shards[-1].filename))  # type: ignore[attr-defined]
            for path in small:
                path.unlink(missing_ok=True)
                path.with_suffix(".npy").unlink(missing_ok=True)
                self._verified.pop(f"{path.stem}.npy", None)

    def _open_link(self, path: Path) -> _Link | None:
        try:
            folder = read_json(path, {"folder": str})["folder"]
            shards = ShardSet(folder)
            if shards.space != asdict(self.space):
                raise ValueError(f"'{folder}' holds features of another recipe")
            return _Link(shards, path.with_suffix(".npy"))
        except (ValueError, KeyError, TypeError) as error:
            # An unmounted disk looks like a folder without features.
            if isinstance(error, DataError) and not Path(folder, "features.json").exists():
                _warn(f"linked features in '{folder}' are not there now and are not used; '{path}' links them")
                return None
            _warn(f"linked features cannot be read any more ({error}) and are forgotten")
            path.unlink(missing_ok=True)
            path.with_suffix(".npy").unlink(missing_ok=True)
        except OSError as error:
            _warn(f"linked features cannot be read now ({error}) and are not used; '{path}' links them")
        return None

    def _map(self, data: Path, keys: list[str]) -> None:
        shard = np.load(data, mmap_mode="r", allow_pickle=False)
        if shard.shape != (len(keys), self.space.feature_size):
            raise ValueError(f"shape {shard.shape} for {len(keys)} keys")
        self._where.update({key: (len(self._shards), row) for row, key in enumerate(keys)})
        self._shards.append(shard)


class _Link:
    """The vectors in a folder of Parquet shards; where each lies is looked up in a file, 40 bytes an image.

    places: sorted by key, of usable rows.
    """

    def __init__(self, shards: ShardSet, index: Path) -> None:
        self.shards = shards
        recipe = json.dumps(shards.manifest["shards"]).encode()
        digest = np.frombuffer(hashlib.sha256(recipe).digest(), _PLACE["key"])[0]
        with contextlib.suppress(OSError, ValueError):
            found = np.load(index, mmap_mode="r", allow_pickle=False)
            # Its last row says which shards it was made from.
            if found.dtype == _PLACE and len(found) and found["key"][-1] == digest:
                self.places = found[:-1]
                return
        self.places = self._located()
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate([self.places, np.array([(digest, -1, -1)], _PLACE)]), allow_pickle=False)
        with contextlib.suppress(StorageError):
            write_bytes(index, buffer.getvalue())

    def _located(self) -> np.ndarray:
        parts = []
        for number in range(len(self.shards.shards)):
            table = self.shards.table(number, ["key", "status"])
            usable = [row for row, status in enumerate(table["status"]) if status != "rejected"]
            part = np.empty(len(usable), _PLACE)
            part["key"] = _packed([table["key"][row] for row in usable])
            part["shard"], part["row"] = number, usable
            parts.append(part)
        places = np.concatenate(parts) if parts else np.empty(0, _PLACE)
        return places[np.unique(places["key"], return_index=True)[1]]

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """For each content hash its number among ``places``, -1 where it is not there."""
        wanted = _packed(keys)
        at = np.searchsorted(self.places["key"], wanted)
        at[at == len(self.places)] = 0
        return np.where(self.places["key"][at] == wanted, at, -1) if len(self.places) else np.full(len(keys), -1)

    def read(self, found: np.ndarray, features: np.ndarray, rows: np.ndarray) -> None:
        """Write the vectors of ``places[found]`` to these rows of ``features``, shard by shard."""
        for number, chosen in _by_shard(self.places["shard"][found]):
            features[rows[chosen]] = self.shards.vectors(number)[self.places["row"][found[chosen]]]


def link_shards(space: FeatureSpace, folder: Path, root: Path | None = None) -> None:
    """Let the store of a space find the vectors of a finished folder of Parquet shards, which stay where they are.

    Raises: DataError when the shards are of another space; StorageError.
    """
    if ShardSet(str(folder)).space != asdict(space):
        raise DataError("the features were made by another recipe", received=f"'{folder}'")
    home = (root or cache_root() / "features") / space.key
    name = hashlib.sha256(str(folder.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
    write_json(home / "space.json", {"recipe_version": RECIPE_VERSION, **asdict(space)})
    write_json(home / f"link-{name}.json", {"folder": str(folder.absolute())})


def stored_spaces(root: Path | None = None) -> Iterator[tuple[dict[str, object], int, int]]:
    """What the cache holds: for each space its recipe, number of vectors and bytes on disk."""
    for description in sorted((root or cache_root() / "features").glob("*/space.json")):
        folder, count = description.parent, 0
        for index in folder.glob("shard-*.json"):
            # What is damaged, or was merged just now, does not count.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                count += len(read_json(index, {"keys": [str]})["keys"])
        with contextlib.suppress(OSError, FormatError):
            yield read_json(description), count, size_of(folder)


def _mark(path: Path) -> list[int]:
    """What changes when a file is written again."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _packed(keys: Sequence[str]) -> np.ndarray:
    """Hexadecimal hashes as bytes that can be sorted and searched; what is no SHA-256 is hashed."""
    packed = [
        bytes.fromhex(key) if re.fullmatch("[0-9a-f]{64}", key) else hashlib.sha256(key.encode()).digest()
        for key in keys
    ]
    return np.array(packed, _PLACE["key"])


def _by_shard(shards: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each shard's number with the indices where it stands: one of a large job is decoded as a whole."""
    order = np.argsort(shards, kind="stable")
    starts = np.flatnonzero(np.diff(shards[order], prepend=-2))
    for rows in np.split(order, starts[1:]) if len(order) else []:
        yield int(shards[rows[0]]), rows


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
