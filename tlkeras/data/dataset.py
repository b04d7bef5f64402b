"""A set of image files: paths, labels and splits side by side, nothing decoded."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tlkeras.errors import ConfigError, DataError, printable

SPLITS = ("train", "validation", "test")


def word_set(text: str) -> frozenset[str]:
    """The words of a text, for tables of names."""
    return frozenset(text.split())


# What folders and lists call the three splits, in lower case.
SPLIT_OF = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
# What people write before and behind such a word.
FILLERS = word_set(
    "set sets data dataset images image imgs img photos pictures pics folder files split samples seg jpg png"
)


class Left(NamedTuple):
    """A file or folder that was found and left out."""

    path: str
    reason: str


class Row(NamedTuple):
    """One image: class, split and group may be empty; ``stamp`` changes with the content, as far as it is known."""

    path: str
    label: str = ""
    split: str = ""
    stamp: str = ""
    group: str = ""


@dataclass(frozen=True)
class Listing:
    """Images as a folder or a list has them, N rows; labels may be missing.

    name: short name, e.g. the folder's. source: what was listed, for people. notes: one line each, what a reader
    should know of how it was understood. left_out: what was found beside the images.
    """

    name: str
    source: str
    rows: list[Row]
    notes: tuple[str, ...] = ()
    left_out: tuple[Left, ...] = ()


@lru_cache(maxsize=1024)
def split_named(name: str) -> str:
    """``train``, ``validation`` or ``test`` where a word stands for it, in any case (``seg_test``, ``TrainingSet``).

    Empty where it does not.
    """
    found = [re.sub(r"(?<=[a-z])(set|data|images|imgs|img)$", "", word) for word in words_of(name)]
    hits = {SPLIT_OF[word] for word in found if word in SPLIT_OF}
    return hits.pop() if len(hits) == 1 and all(word in SPLIT_OF or word in FILLERS for word in found) else ""


def words_of(name: str) -> list[str]:
    """The words in a name, in lower case: ``seg_trainImages2`` has three."""
    return [word.lower() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]


@dataclass(frozen=True)
class LabelledImages:
    """N image files with their classes.

    name: short name, e.g. the folder's. source: what it was opened from, for people.
    class_names: the label ``i`` means ``class_names[i]``; at least one, all different.
    paths: N file names; they may hold any character that the file system allows.
    labels: int32 ``[N]`` in ``0 .. len(class_names) - 1``.
    splits: str ``[N]``, each ``""`` (not given), ``"train"``, ``"validation"`` or ``"test"``.
    notes, left_out: as in ``Listing``.
    groups: str ``[N]``, the video, patient, plant or animal of each; ``""`` for images that are alone. None: all are.

    Raises: DataError when lengths, labels or splits do not fit together.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    notes: tuple[str, ...] = ()
    left_out: tuple[Left, ...] = ()
    groups: np.ndarray | None = None

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
            groups=None if self.groups is None else self.groups[indices],
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

    def grouped_by(self, pattern: str | None) -> LabelledImages:
        """The same images with groups: what a regular expression's first bracket, or all of it, finds in each path.

        Where it finds nothing, a group that was given stays. None leaves all as they are.

        Raises: ConfigError for a pattern that is none, or that fits no path.
        """
        if pattern is None:
            return self
        try:
            found = [re.search(pattern, path) for path in self.paths]
        except re.error as error:
            raise ConfigError(
                "--group-by is a regular expression on paths",
                received=f"'{pattern}' ({error})",
                next_step=r"As '/(patient\d+)_': what stands in the brackets names the group.",
            ) from None
        if not any(found):
            raise ConfigError(
                "--group-by finds a group in no path",
                received=f"'{pattern}', and paths as '{printable(self.paths[0]) if self.paths else ''}'",
            )
        given = np.full(len(self), "") if self.groups is None else self.groups
        names = [
            old if hit is None else hit[min(1, hit.re.groups)] or "" for hit, old in zip(found, given, strict=True)
        ]
        return dataclasses.replace(self, groups=np.array(names, str))

    def class_counts(self) -> dict[str, int]:
        """Images of each class, in label order; classes without images count 0."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def report(self) -> list[str]:
        """Lines for people: ``describe``, what should be known of how the data was read, and what was left out."""
        return [self.describe(), *self.notes, *left_line(self.left_out)]

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


def found_json(images: int, left_out: Sequence[Left]) -> dict[str, Any]:
    """Plain values that account for everything that was found: ``found`` = ``images`` + those in ``left_out``."""
    rows = [{"path": printable(path), "reason": reason} for path, reason in left_out]
    return {"found": images + len(rows), "left_out": rows}


def left_line(left_out: Sequence[Left]) -> list[str]:
    """What was left out, in one line or none: ``left out: 2 hidden; 1 system folder ('@eaDir')``."""
    if not left_out:
        return []
    reasons: dict[str, list[str]] = {}
    for path, reason in left_out:
        reasons.setdefault(reason, []).append(printable(path.rstrip("/").rsplit("/", 1)[-1]))
    parts = [
        f"{len(names):,} {reason} ('{names[0]}'{' …' if len(names) > 1 else ''})" for reason, names in reasons.items()
    ]
    return [f"left out: {'; '.join(parts)}"]


def labelled(listing: Listing, *, for_training: bool = True) -> LabelledImages:
    """A listing as classes to be trained or, otherwise, measured on.

    Raises: DataError when a class has no name, or an image no class; for training also with fewer than two classes, and
    when a class has no training images.
    """
    source = f"'{listing.source}'"
    class_names = check_classes((row.label for row in listing.rows), source, 2 if for_training else 1)
    number_of = {name: number for number, name in enumerate(class_names)}
    found = LabelledImages(
        listing.name,
        listing.source,
        class_names,
        tuple(row.path for row in listing.rows),
        np.array([number_of[row.label] for row in listing.rows], np.int32),
        np.array([row.split for row in listing.rows], str),
        (*listing.notes, *_look_alikes(class_names)),
        listing.left_out,
        np.array([row.group for row in listing.rows], str) if any(row.group for row in listing.rows) else None,
    )
    splits = found.splits
    lacking = set(range(len(class_names))) - set(found.labels[splits == "train"].tolist())
    if for_training and lacking and "train" in splits and "" not in splits:
        raise DataError("every class needs training images", received=f"none of '{class_names[min(lacking)]}' in "
                        f"the train part of {source}")  # fmt: skip
    return found


def _look_alikes(class_names: Sequence[str]) -> list[str]:
    """A line for each pair of classes whose names differ in case, blanks or signs only."""
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold()), []).append(name)
    return [
        "warning: " + " and ".join(f"'{name}'" for name in names) + " are different classes; if they are one, give "
        "folders or labels the same name"
        for names in alike.values()
        if len(names) > 1
    ]


def check_classes(names: Iterable[str], source: str, at_least: int = 2) -> tuple[str, ...]:
    """Sorted, different class names.

    Raises: DataError when there are fewer than ``at_least``, or one that is no plain text.
    """
    counted = Counter(names)
    for name in counted:
        if not name.strip() or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise DataError(
                "a class name is a line of text", received=f"'{printable(name)}' in {source}", next_step="Rename it."
            )
    if len(counted) < at_least:
        found = f"only '{next(iter(counted))}'" if counted else "none"
        raise DataError(
            "a classifier needs at least two classes" if at_least > 1 else "there is no labelled image",
            received=f"{found} in {source}",
            next_step="Make one folder (or one label) for each class.",
        )
    return tuple(sorted(counted))
