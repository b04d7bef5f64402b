"""The plan of a large job: images in pieces of a known order, each of which becomes one shard of the output.

The same data gives the same pieces with the same names, so that a job which was cut off, or one of whose machines
died, knows by the names alone what is done. Only names are planned; no image is opened.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tlkeras.data.containers import TFRECORD_MARK, parquet_pieces, parquet_rows, tfrecord_classes
from tlkeras.data.csv_list import COLUMNS, LIST_ENDINGS, open_list
from tlkeras.data.dataset import SPLIT_NAMES, LabelledImages
from tlkeras.data.inputs import IMAGE_SUFFIXES
from tlkeras.data.open import open_dataset
from tlkeras.data.remote import files_below, is_remote, join, parts_below, read_file
from tlkeras.errors import DataError

# What a killed worker loses at most; 2,048 vectors of 1,280 numbers are 10 MB, a size that object stores like.
ROWS_A_SHARD = 2048
_LIST_FORMAT = "Its first line names the columns: path, and maybe label and split."


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
    """The pieces of a data set in order; ``images``: how many there are, or None where that is not known before."""

    name: str
    works: tuple[Work, ...]
    images: int | None


def plan(data: str | Sequence[str], *, rows_a_shard: int = ROWS_A_SHARD, data_dir: str | None = None) -> Plan:
    """Plan a data set.

    ``data``: several files, or one name of: a folder with a folder for each class (``tlkeras.data.folder``), a folder
    of images, a list (CSV or Parquet) of paths, a Parquet file or folder with a column of the images' bytes, a file or
    folder of TFRecords (TFDS's too), a pattern, ``demo`` or a TFDS name. All but the last two may lie on any file
    system that fsspec knows.

    Raises: DataError when there is nothing of the kind; StorageError when a file system refuses.
    """
    if not isinstance(data, str):
        return _of_files(f"{len(data)} files", ((name, "", "", "") for name in data), rows_a_shard)
    if not is_remote(data):
        # Names that people type: ~, demo, TFDS sets, a list without a header.
        path = Path(data).expanduser()
        if not path.exists() and not any(letter in data for letter in "*?["):
            return _of_dataset(open_dataset(data, data_dir=data_dir), rows_a_shard)
        data = str(path.absolute())
    suffix = PurePosixPath(data).suffix.lower()
    stem = PurePosixPath(data.rstrip("/")).stem or "data"
    if suffix in LIST_ENDINGS:
        return _of_list(data, stem, rows_a_shard)
    files = files_below(data)
    shown = {name: stamp for name, stamp in files.items() if not _is_hidden(name, data)}
    parquet = [name for name in shown if name.lower().endswith(".parquet")]
    if parquet:
        return _of_parquet(stem, {name: shown[name] for name in parquet}, data, rows_a_shard)
    records = {name: stamp for name, stamp in shown.items() if TFRECORD_MARK in PurePosixPath(name).name}
    if records:
        return _of_records(stem, records)
    return _of_folder(data, stem, shown, rows_a_shard)


def _of_files(name: str, files: Iterable[tuple[str, str, str, str]], rows_a_shard: int) -> Plan:
    """From (path, class, split, stamp)."""
    works: list[Work] = []
    count = 0
    rows: list[tuple[str, str, str]] = []
    stamps = hashlib.sha256()
    for path, label, split, stamp in files:
        rows.append((path, label, split))
        stamps.update(f"{stamp}\n".encode())
        count += 1
        if len(rows) == rows_a_shard:
            works.append(Work("files", tuple(rows), stamp=stamps.hexdigest()))
            rows, stamps = [], hashlib.sha256()
    if rows:
        works.append(Work("files", tuple(rows), stamp=stamps.hexdigest()))
    return Plan(name, tuple(works), count)


def _of_dataset(images: LabelledImages, rows_a_shard: int) -> Plan:
    files = zip(images.paths, images.labels, images.splits, strict=True)
    named = ((path, images.class_names[label], str(split), "") for path, label, split in files)
    return _of_files(images.name, named, rows_a_shard)


def _of_folder(folder: str, name: str, files: dict[str, str], rows_a_shard: int) -> Plan:
    """Images by the folders that they lie in: ``[split/]class/…``, or no class for those at the top."""
    images = {path: stamp for path, stamp in files.items() if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES}
    if not images:
        raise DataError("the folder has no images, Parquet files or TFRecords", received=f"'{folder}'")
    parts = {path: parts_below(path, folder) for path in images}
    splits = {words[0] for words in parts.values() if words[0].lower() in SPLIT_NAMES and len(words) > 2}
    others = {words[0] for words in parts.values()} - splits
    rows = []
    for path, words in parts.items():
        split = SPLIT_NAMES[words[0].lower()] if splits and not others else ""
        inner = words[1:] if split else words
        rows.append((path, inner[0] if len(inner) > 1 else "", split, images[path]))
    return _of_files(name, rows, rows_a_shard)


def _of_list(data: str, name: str, rows_a_shard: int) -> Plan:
    try:
        text = read_file(data).decode("utf-8-sig", "surrogateescape")
    except FileNotFoundError:
        raise DataError("there is no such list", received=f"'{data}'", next_step="Check the address.") from None
    first, _, _ = text.partition("\n")
    delimiter = max((",", ";", "\t"), key=lambda letter: (len(_columns(first.split(letter))), first.count(letter)))
    at = _columns(first.strip("\r").split(delimiter))
    if "path" not in at:
        if is_remote(data):
            raise DataError("a list names its columns", received=f"'{first[:80]}' in '{data}'", next_step=_LIST_FORMAT)
        return _of_dataset(open_list(data), rows_a_shard)
    home = data.rsplit("/", 1)[0]
    return _of_files(name, _list_rows(data, home, text, delimiter, at), rows_a_shard)


def _list_rows(
    data: str, home: str, text: str, delimiter: str, at: dict[str, int]
) -> Iterator[tuple[str, str, str, str]]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    next(reader)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) <= max(at.values()):
            raise DataError(f"line {reader.line_num} of the list is too short", received=f"'{data}'",
                            next_step=_LIST_FORMAT)  # fmt: skip
        cell = {column: cells[place].strip() for column, place in at.items()}
        yield _list_row(home, cell["path"], cell.get("label", ""), cell.get("split", ""), data)


def _list_row(home: str, path: str, label: str, split: str, data: str) -> tuple[str, str, str, str]:
    if split and split.lower() not in SPLIT_NAMES:
        raise DataError("splits are train, validation and test", received=f"'{split}' in '{data}'")
    full = path if is_remote(path) or path.startswith("/") else join(home, path)
    return full, label, SPLIT_NAMES[split.lower()] if split else "", ""


def _columns(cells: Sequence[str]) -> dict[str, int]:
    words = [cell.strip().strip('"').lower() for cell in cells]
    return {
        column: next(words.index(synonym) for synonym in synonyms if synonym in words)
        for column, synonyms in COLUMNS.items()
        if set(synonyms) & set(words)
    }


def _of_parquet(name: str, files: dict[str, str], data: str, rows_a_shard: int) -> Plan:
    works: list[Work] = []
    listed: list[tuple[str, str, str, str]] = []
    count = 0
    for file, stamp in files.items():
        pieces = parquet_pieces(file, rows_a_shard)
        count += pieces.rows
        if pieces.has_bytes:
            works += [
                Work(
                    "parquet",
                    (),
                    file,
                    first,
                    last,
                    pieces.image,
                    pieces.label,
                    pieces.split,
                    pieces.class_names,
                    stamp,
                )
                for first, last in pieces.row_groups
            ]
        else:
            home = file.rsplit("/", 1)[0]
            columns = (pieces.image, pieces.label, pieces.split)
            for path, label, split in parquet_rows(file, columns, pieces.class_names):
                listed.append(_list_row(home, path, label, split, file))
    if listed:
        works += _of_files(name, listed, rows_a_shard).works
    if not works:
        raise DataError("the Parquet files have no rows", received=f"'{data}'")
    return Plan(name, tuple(works), count)


def _of_records(name: str, files: dict[str, str]) -> Plan:
    works = []
    for file, stamp in files.items():
        home, base = file.rsplit("/", 1)
        # TFDS calls a shard NAME-SPLIT.tfrecord-00000-of-00008.
        word = base.split(TFRECORD_MARK, 1)[0].rsplit("-", 1)[-1].lower()
        works.append(
            Work("tfrecord", (), file, split=SPLIT_NAMES.get(word, ""), class_names=tfrecord_classes(home), stamp=stamp)
        )
    return Plan(name, tuple(works), None)


def _is_hidden(path: str, folder: str) -> bool:
    return any(part.startswith((".", "_")) for part in parts_below(path, folder))


def recipe_of(value: Any) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
