"""The plan of a large job: images in pieces of a known order, each of which becomes one shard of the output.

The same data gives the same pieces with the same names, so that a job which was cut off, or one of whose machines
died, knows by the names alone what is done. Only names are planned; no image is opened.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tlkeras.data.containers import parquet_pieces, tfrecord_classes
from tlkeras.data.dataset import SPLIT_OF, Left, Listing, Row, left_line
from tlkeras.data.folder import all_rows, read_tree
from tlkeras.data.lists import LIST_ENDINGS, read_list
from tlkeras.data.open import open_dataset, refuse_layout
from tlkeras.data.remote import is_remote
from tlkeras.data.tree import TFRECORD_MARK, tree_at
from tlkeras.errors import DataError

# What a killed worker loses at most; 2,048 vectors of 1,280 numbers are 10 MB, a size that object stores like.
ROWS_A_SHARD = 2048


@dataclass(frozen=True)
class Work:
    """The images of one shard.

    kind: ``files`` (each with path, class and split, the last two maybe empty), or rows of one container:
    ``parquet`` (row groups ``first`` to before ``last``) or ``tfrecord`` (the whole file).
    image, label, split: for a container, its columns; split may also be the name of the one that all rows belong to.
    class_names: for a container whose labels are numbers.
    """

    kind: str
    files: tuple[tuple[str, str, str], ...] = ()
    container: str = ""
    first: int = 0
    last: int = 0
    image: str = ""
    label: str = ""
    split: str = ""
    class_names: tuple[str, ...] = ()
    stamp: str = ""

    def name(self, number: int, recipe: str) -> str:
        """The shard's name, which changes with its place, its images and the recipe."""
        described = json.dumps([recipe, asdict(self)], sort_keys=True)
        digest = hashlib.sha256(described.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return f"part-{number:06d}-{digest}"


@dataclass(frozen=True)
class Plan:
    """The pieces of a data set in order.

    images: how many there are, or None where that is not known before. notes, left_out: as in ``Listing``.
    """

    name: str
    works: tuple[Work, ...]
    images: int | None
    notes: tuple[str, ...] = ()
    left_out: tuple[Left, ...] = ()

    def report(self) -> list[str]:
        """Lines for people: what should be known of how the data was read, and what was left out."""
        return [*self.notes, *left_line(self.left_out)]


def plan(
    data: str | Sequence[str],
    *,
    rows_a_shard: int = ROWS_A_SHARD,
    data_dir: str | None = None,
    need_layout: bool = True,
    class_from_name: bool = False,
    classes_at: int | None = None,
) -> Plan:
    """Plan a data set.

    ``data``: several files, or one name of: a folder as ``open_dataset`` reads it or with images only, a list (CSV or
    Parquet) of paths, with or without labels, a Parquet file or folder with a column of the images' bytes, a file or
    folder of TFRecords (TFDS's too), a pattern, ``demo`` or a TFDS name. All but the last two may lie on any file
    system that fsspec knows. ``need_layout``: whether class folders that cannot be understood are refused, as
    for training; else their images have no class.

    Raises: DataError when there is nothing of the kind; StorageError when a file system refuses.
    """
    if not isinstance(data, str):
        return _of_rows(Listing(f"{len(data)} files", "", [Row(name) for name in data]), rows_a_shard)
    if not is_remote(data):
        path = Path(data).expanduser()
        if not path.exists() and not glob.has_magic(data):
            refuse_layout(data, class_from_name, classes_at)
            images = open_dataset(data, data_dir=data_dir)
            files = zip(images.paths, images.labels, images.splits, strict=True)
            listed = [Row(path, images.class_names[label], str(split)) for path, label, split in files]
            return _of_rows(Listing(images.name, images.source, listed, images.notes, images.left_out), rows_a_shard)
        data = str(path.absolute())
    stem = PurePosixPath(data.rstrip("/")).stem or "data"
    if PurePosixPath(data).suffix.lower() in LIST_ENDINGS:
        refuse_layout(data, class_from_name, classes_at)
        return _of_rows(read_list(data, need_labels=False), rows_a_shard)
    tree = tree_at(data)
    parquet = [(name, stamp) for name, stamp in tree.containers if name.lower().endswith(".parquet")]
    if parquet:
        return _of_parquet(stem, parquet, data, rows_a_shard)
    if tree.containers:
        return _of_records(stem, tree.containers)
    if not tree.top.holds_files:
        raise DataError("the folder has no images, Parquet files or TFRecords", received=f"'{data}'")
    left_out = tuple(tree.left_out)
    rows, notes = list[Row](), list[str]()
    if tree.top.folders or class_from_name:
        try:
            rows, notes = read_tree(tree, class_from_name=class_from_name, classes_at=classes_at)
        except DataError as error:
            if need_layout:
                raise
            notes = [f"no classes are read from the folders: {error.rule}"]
        if need_layout:
            return _of_rows(Listing(stem, data, rows, tuple(notes), tuple(tree.left_out)), rows_a_shard)
    # Photos without a class (on top, beside the splits …) are wanted too.
    known = {row.path: row for row in rows}
    rows = [known.get(row.path, row) for row in all_rows(tree.top)]
    return _of_rows(Listing(stem, data, rows, () if known else tuple(notes), left_out), rows_a_shard)


def _of_rows(listing: Listing, rows_a_shard: int) -> Plan:
    works = []
    for start in range(0, len(listing.rows), rows_a_shard):
        rows = listing.rows[start : start + rows_a_shard]
        stamps = hashlib.sha256("".join(f"{row.stamp}\n" for row in rows).encode())
        works.append(Work("files", tuple(row[:3] for row in rows), stamp=stamps.hexdigest()))
    notes = listing.notes
    if any(row.group for row in listing.rows):
        notes = (*notes, "groups are not kept with features: name them by --group-by when you train on these")
    return Plan(listing.name, tuple(works), len(listing.rows), notes, listing.left_out)


def _of_parquet(name: str, files: list[tuple[str, str]], data: str, rows_a_shard: int) -> Plan:
    works: list[Work] = []
    listed: list[Row] = []
    count = 0
    notes: list[str] = []
    for file, stamp in files:
        pieces = parquet_pieces(file, rows_a_shard)
        count += pieces.rows
        if pieces.has_bytes:
            shared = {"image": pieces.image, "label": pieces.label, "split": pieces.split}
            works += [
                Work("parquet", (), file, first, last, **shared, class_names=pieces.class_names, stamp=stamp)
                for first, last in pieces.row_groups
            ]
        else:
            listing = read_list(file, need_labels=False)
            listed += listing.rows
            notes += listing.notes
    works += _of_rows(Listing(name, data, listed), rows_a_shard).works
    if not works:
        raise DataError("the Parquet files have no rows", received=f"'{data}'")
    return Plan(name, tuple(works), count, tuple(notes))


def _of_records(name: str, files: list[tuple[str, str]]) -> Plan:
    works = []
    for file, stamp in files:
        home, base = file.rsplit("/", 1)
        # TFDS calls a shard NAME-SPLIT.tfrecord-00000-of-00008.
        split = SPLIT_OF.get(base.split(TFRECORD_MARK, 1)[0].rsplit("-", 1)[-1].lower(), "")
        works.append(Work("tfrecord", (), file, split=split, class_names=tfrecord_classes(home), stamp=stamp))
    return Plan(name, tuple(works), None)


def recipe_of(value: Any) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
