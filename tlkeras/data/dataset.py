"""A labelled set of image files: paths, labels and splits side by side, nothing decoded."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tlkeras.errors import ConfigError, DataError, printable

SPLITS = ("train", "validation", "test")
# What folders and lists call the three splits, in lower case.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class LabelledImages:
    """N image files with their classes.

    name: short name, e.g. the folder's. source: what it was opened from, for people.
    class_names: the label ``i`` means ``class_names[i]``; at least one, all different.
    paths: N file names; they may hold any character that the file system allows.
    labels: int32 ``[N]`` in ``0 .. len(class_names) - 1``.
    splits: str ``[N]``, each ``""`` (not given), ``"train"``, ``"validation"`` or ``"test"``.

    Raises: DataError when lengths, labels or splits do not fit together.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int32))
        object.__setattr__(self, "splits", np.asarray(self.splits, "<U10"))
        n = len(self.paths)
        if self.labels.shape != (n,) or self.splits.shape != (n,):
            raise DataError(
                "a data set has one label and one split for each path",
                received=f"{n} paths, labels {self.labels.shape}, splits {self.splits.shape}",
            )
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise DataError("class names are all different", received=list(self.class_names))
        if n and not (self.labels.min() >= 0 and self.labels.max() < len(self.class_names)):
            raise DataError(
                f"labels lie in 0..{len(self.class_names) - 1}",
                received=f"{self.labels.min()}..{self.labels.max()}",
            )
        strange = set(np.unique(self.splits).tolist()) - {"", *SPLITS}
        if strange:
            raise DataError("splits are train, validation and test", received=sorted(strange))

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, chosen: np.ndarray | Sequence[int]) -> LabelledImages:
        """The images at integer indices (kept in that order), or where a boolean mask ``[N]`` is true."""
        indices = np.asarray(chosen)
        if indices.dtype == bool:
            if indices.shape != (len(self),):
                raise DataError(f"a mask over this set has shape ({len(self)},)", received=indices.shape)
            indices = np.flatnonzero(indices)
        indices = indices.astype(np.int64)
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[i] for i in indices),
            labels=self.labels[indices],
            splits=self.splits[indices],
        )

    def in_split(self, name: str) -> LabelledImages:
        """The images of one split: ``train``, ``validation``, ``test`` or ``""``; maybe none.

        Raises: ConfigError for another name.
        """
        if name not in ("", *SPLITS):
            raise ConfigError("splits are train, validation and test", received=f"'{name}'")
        return self.subset(self.splits == name)

    def with_splits(self, splits: np.ndarray) -> LabelledImages:
        """The same images with other splits, str ``[N]``."""
        return dataclasses.replace(self, splits=splits)

    def class_counts(self) -> dict[str, int]:
        """Images of each class, in label order; classes without images count 0."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def describe(self) -> str:
        """One line for people: name, counts, given splits, and classes that a split lacks."""
        line = f"{self.name}: {plural(len(self), 'image')}, {plural(len(self.class_names), 'class', 'classes')}"
        parts = []
        for name in SPLITS:
            labels = self.labels[self.splits == name]
            if len(labels):
                lacking = len(self.class_names) - len(np.unique(labels))
                lacks = f" without {plural(lacking, 'class', 'classes')}" if lacking else ""
                parts.append(f"{name} {len(labels):,}{lacks}")
        return f"{line} ({', '.join(parts)})" if parts else line


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun: ``1 image``, ``2,000 images``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def check_classes(names: Iterable[str], source: str) -> tuple[str, ...]:
    """Sorted, different class names.

    Raises: DataError when there are fewer than two, or one that is no plain text.
    """
    counted = Counter(names)
    for name in counted:
        if not name.strip() or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise DataError(
                "a class name is a line of text", received=f"'{printable(name)}' in {source}", next_step="Rename it."
            )
    if len(counted) < 2:
        found = f"only '{next(iter(counted))}'" if counted else "none"
        raise DataError(
            "a classifier needs at least two classes",
            received=f"{found} in {source}",
            next_step="Make one folder (or one label) for each class.",
        )
    return tuple(sorted(counted))
