"""The labels and splits of a finished folder of features, without the features: 13 bytes an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tlkeras.data.dataset import check_classes
from tlkeras.errors import DataError
from tlkeras.features.shards import ShardSet
from tlkeras.heads.linear import unit_rows

_SPLIT_CODE = {"": 0, "train": 1, "validation": 2, "test": 3}


@dataclass(frozen=True)
class ShardRows:
    """What each row of a set of shards is good for.

    labels: int32 ``[N]`` in ``0 .. K - 1``. splits: uint8 ``[N]``, 1 train, 2 validation, 3 test, 0 for rows that
    are left out. copies, conflicts, unlabelled, rejected: how many were left out, and why.
    """

    shards: ShardSet
    class_names: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    copies: int
    conflicts: int
    unlabelled: int
    rejected: int

    def count(self, *names: str) -> int:
        """How many rows lie in these splits."""
        return int(np.isin(self.splits, [_SPLIT_CODE[name] for name in names]).sum())

    def batches(self, *names: str, chosen: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features of unit length float32 ``[n, D]`` and labels of some splits together, shard by shard.

        ``chosen``: bool ``[N]``, only these of the splits' rows.
        """
        wanted = np.isin(self.splits, [_SPLIT_CODE[name] for name in names])
        if chosen is not None:
            wanted &= chosen
        starts = np.concatenate([[0], np.cumsum([shard.rows for shard in self.shards.shards])])
        # A shard without a wanted row is not even read.
        some = [number for number, start in enumerate(starts[:-1]) if wanted[start : starts[number + 1]].any()]
        for start, vectors in self.shards.batches(some):
            rows = np.flatnonzero(wanted[start : start + len(vectors)])
            yield unit_rows(vectors[rows]), self.labels[start + rows].astype(np.int64)

    def gather(self, name: str, chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """All of ``batches`` as one: features ``[n, D]`` and labels ``[n]``; they must fit in memory."""
        parts = list(self.batches(name, chosen=chosen))
        if not parts:
            raise DataError(f"there are no {name} rows", received=f"'{self.shards.folder}'")
        return np.concatenate([features for features, _ in parts]), np.concatenate([labels for _, labels in parts])


def read_rows(
    shards: ShardSet, *, validation_fraction: float, test_fraction: float, seed: int, need_test: bool = True
) -> ShardRows:
    """Read labels and given splits, leave out what cannot be used, and carve the splits that are missing.

    Of rows with the same bytes the first stays; if their classes differ, none does. Splits are carved class by class by
    a hash of the seed and the content, so that neither the order of the shards nor more images move old ones.

    Raises: DataError when there are no classes, or one has too few images.
    """
    labels, splits, scores, status = _columns(shards, seed)
    usable = (status == 0) & (labels != -1)
    names = [name for name in _names(shards) if name]
    class_names = check_classes(names, f"'{shards.folder}'")
    copies, conflicts = _settle(labels, splits, scores, usable)
    carvable = usable & (splits <= 1)
    for name, fraction, carve in (("test", test_fraction, need_test), ("validation", validation_fraction, True)):
        if carve and not (usable & (splits == _SPLIT_CODE[name])).any():
            _carve(labels, splits, scores, carvable, class_names, name, fraction)
    splits[splits == 0] = _SPLIT_CODE["train"]
    splits[~usable] = 0
    for label, name in enumerate(class_names):
        if not ((splits == 1) & (labels == label)).any():
            raise DataError("every class needs training images", received=f"none of '{name}'")
    return ShardRows(
        shards,
        class_names,
        labels,
        splits,
        copies,
        conflicts,
        unlabelled=int(((status == 0) & (labels == -1)).sum()),
        rejected=int((status == 1).sum()),
    )


def _names(shards: ShardSet) -> set[str]:
    names: set[str] = set()
    for number in range(len(shards.shards)):
        table = shards.table(number, ["label", "status"])
        names.update(
            label for label, status in zip(table["label"], table["status"], strict=True) if status != "rejected"
        )
    return names


def _columns(shards: ShardSet, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels int32 (-1: none), splits uint8, scores uint64 and status uint8 (1: rejected) of all rows."""
    number_of = {name: number for number, name in enumerate(sorted(name for name in _names(shards) if name))}
    count = len(shards)
    labels, splits = np.full(count, -1, np.int32), np.zeros(count, np.uint8)
    scores, status = np.zeros(count, np.uint64), np.zeros(count, np.uint8)
    at = 0
    salt = np.random.default_rng(seed).integers(1, 2**63, dtype=np.uint64) | np.uint64(1)
    for number in range(len(shards.shards)):
        table = shards.table(number, ["key", "label", "split", "status"])
        rows = slice(at, at + len(table["key"]))
        labels[rows] = [number_of.get(label, -1) for label in table["label"]]
        splits[rows] = [_SPLIT_CODE.get(split, 0) for split in table["split"]]
        status[rows] = [word == "rejected" for word in table["status"]]
        # The SHA-256 of the content is evenly spread already; an odd factor orders it anew for each seed.
        scores[rows] = np.array([int(key[:16] or "0", 16) for key in table["key"]], np.uint64) * salt
        at = rows.stop
    return labels, splits, scores, status


def _settle(labels: np.ndarray, splits: np.ndarray, scores: np.ndarray, usable: np.ndarray) -> tuple[int, int]:
    """Leave out copies and contradictions by changing ``usable``; returns how many of each."""
    rows = np.flatnonzero(usable)
    # A copy in the test split stays there: the one in training would be a leak.
    order = rows[np.lexsort((rows, -splits[rows].astype(int), scores[rows]))]
    same = scores[order][1:] == scores[order][:-1]
    copy = np.concatenate([[False], same])
    group = np.cumsum(~copy) - 1
    differs = np.zeros(group[-1] + 1 if len(group) else 0, bool)
    differs[group[1:][same & (labels[order][1:] != labels[order][:-1])]] = True
    conflicting = differs[group] if len(group) else np.zeros(0, bool)
    usable[order[conflicting]] = False
    usable[order[copy & ~conflicting]] = False
    return int((copy & ~conflicting).sum()), int(conflicting.sum())


def _carve(
    labels: np.ndarray,
    splits: np.ndarray,
    scores: np.ndarray,
    carvable: np.ndarray,
    class_names: Sequence[str],
    name: str,
    fraction: float,
) -> None:
    for label, class_name in enumerate(class_names):
        of_class = carvable & (labels == label)
        pool = np.flatnonzero(of_class & (splits <= 1))
        if len(pool) < 2:
            raise DataError(
                "a class needs at least 2 different images for each split that is carved",
                received=f"{len(pool)} of '{class_name}'",
                next_step="Add photos, or remove the class.",
            )
        wanted = min(max(1, round(fraction * int(of_class.sum()))), len(pool) - 1)
        # The test from one end of the order, validation from the other: neither moves when the other is asked for.
        ordered = pool[np.argsort(scores[pool], kind="stable")]
        splits[ordered[:wanted] if name == "test" else ordered[-wanted:]] = _SPLIT_CODE[name]
