"""Parting a data set into training, validation and test images: stratified, stable, never tearing copies apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from tlkeras.data.dataset import LabelledImages
from tlkeras.errors import ConfigError, DataError


def split(
    dataset: LabelledImages,
    groups: np.ndarray,
    *,
    keys: Sequence[str] | None = None,
    validation_fraction: float | None = 0.15,
    test_fraction: float | None = 0.15,
    seed: int = 0,
) -> LabelledImages:
    """Put every image into ``train``, ``validation`` or ``test``.

    Given splits stay; those that are missing are carved out of the training images (and those without a split), unless
    their share is None. ``groups``, int ``[N]``: images with equal numbers go together. Copies of several
    classes, whose labels are doubtful, stay in training; a given group of several (a patient's photos) goes with its
    most frequent one.

    The images of a class are ordered by a hash of the seed and their key, ``keys[i]`` (the SHA-256 of the content),
    by default class and file name. The first become the test, the last the validation images. So neither the order of
    files nor where they lie matters, and when photos are added nearly all old ones stay where they were.

    Each class gives ``round(fraction · n)`` images, at least one, to each carved split and keeps at least one group
    for training; a class of two groups gives one to the test if it is carved, else to validation.

    Raises: ConfigError for fractions out of range; DataError for a class with too few different images, or without
    training images, and when there are no training images.
    """
    given = set(dataset.splits.tolist()) - {""}
    carved = {
        name: share
        for name, share in (("test", test_fraction), ("validation", validation_fraction))
        if share is not None and name not in given
    }
    _check_fractions(carved)
    if len(groups) != len(dataset) or (keys is not None and len(keys) != len(dataset)):
        raise DataError("one group and one key for each image", received=f"{len(groups)} groups, {len(dataset)} images")
    if keys is None:
        names = [dataset.class_names[label] for label in dataset.labels]
        keys = [f"{name}/{PurePath(path).name}" for name, path in zip(names, dataset.paths, strict=True)]
    splits = dataset.splits.copy()
    pool = np.flatnonzero((splits == "") | (splits == "train"))
    if not len(pool):
        raise DataError("there are no training images", received=dataset.describe(), next_step="Add a train split.")
    splits[pool] = "train"
    members_of = _groups_by_class(dataset, np.asarray(groups), pool)
    # Where nothing is carved each is held out once, for the others to judge it.
    needed = 1 if given >= {"test", "validation"} else 2
    for label, (members, has_doubtful) in enumerate(members_of):
        name = dataset.class_names[label]
        if not members and not has_doubtful:
            raise DataError("every class needs training images", received=f"none of '{name}'")
        if len(members) < needed and not has_doubtful:
            raise DataError(
                f"a class needs at least {needed} different images",
                received=f"{len(members)} of '{name}'",
                next_step="Add photos, or remove the class.",
            )
        ordered = sorted(members, key=lambda group: min(_score(seed, keys[i], dataset.paths[i]) for i in group))
        n = sum(len(group) for group in ordered)
        if "test" in carved:
            # One group is left for training, and one for validation where there are three.
            spared = 2 if "validation" in carved and len(ordered) > 2 else 1
            ordered = _carve(splits, ordered, "test", _share(carved["test"], n), spared)
        if "validation" in carved:
            _carve(splits, ordered[::-1], "validation", _share(carved["validation"], n), 1)
    lost = set(dataset.labels[pool].tolist()) - set(dataset.labels[splits == "train"].tolist())
    if lost:
        raise DataError(
            "every class needs training images",
            received=f"none of '{dataset.class_names[min(lost)]}' where whole groups are held out",
            next_step="Give another --seed, or splits of your own.",
        )
    return dataset.with_splits(splits)


def _check_fractions(carved: dict[str, float]) -> None:
    for name, fraction in carved.items():
        if not 0 < fraction < 1:
            raise ConfigError(f"{name}_fraction lies between 0 and 1", received=fraction)
    if sum(carved.values()) >= 1:
        raise ConfigError(
            "validation_fraction and test_fraction leave images for training",
            received=" + ".join(map(str, carved.values())),
        )


def _share(fraction: float, n: int) -> int:
    return max(1, round(fraction * n))


def _carve(splits: np.ndarray, ordered: list[list[int]], name: str, wanted: int, spared: int) -> list[list[int]]:
    """Move groups, from the front, into a split until it has ``wanted`` images; ``spared`` groups or more are left."""
    if len(ordered) <= spared:
        return ordered
    # When all are larger than the share the smallest goes: a split that lacks the class is worse.
    wanted = max(wanted, min(map(len, ordered)))
    left: list[list[int]] = []
    for at, group in enumerate(ordered):
        others = len(left) + len(ordered) - at - 1
        if len(group) <= wanted and others >= spared:
            splits[group] = name
            wanted -= len(group)
        else:
            left.append(group)
    return left


def _groups_by_class(
    dataset: LabelledImages, groups: np.ndarray, pool: np.ndarray
) -> list[tuple[list[list[int]], bool]]:
    """For each class: its groups (lists of indices), and whether it has images in other classes' or doubtful ones."""
    members: dict[int, list[int]] = {}
    for i in pool.tolist():
        members.setdefault(int(groups[i]), []).append(i)
    of_class: list[list[list[int]]] = [[] for _ in dataset.class_names]
    elsewhere: set[int] = set()
    for group in members.values():
        present, counts = np.unique(dataset.labels[group], return_counts=True)
        given = dataset.groups is not None and bool((dataset.groups[group] != "").any())
        home = int(present[counts.argmax()])
        if len(present) == 1 or given:
            of_class[home].append(group)
        elsewhere |= set(present.tolist()) - ({home} if len(present) == 1 or given else set())
    return [(mine, label in elsewhere) for label, mine in enumerate(of_class)]


def _score(seed: int, key: str, path: str) -> tuple[bytes, str]:
    # Equal keys mean equal content; the path settles their order.
    return hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogateescape")).digest(), path
