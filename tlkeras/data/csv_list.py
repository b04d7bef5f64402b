"""A data set in a list: a CSV file with the columns path, label and maybe split."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tlkeras.data.dataset import SPLIT_NAMES, LabelledImages, check_classes, printable
from tlkeras.errors import DataError

LIST_ENDINGS = (".csv", ".tsv", ".txt")
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path"),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "subset", "set", "partition"),
}
_FORMAT = "Its first line is 'path,label' or 'path,label,split'."


def open_list(path: str | Path) -> LabelledImages:
    """Read a list of images.

    The delimiter is a comma, a semicolon or a tab; the encoding UTF-8, with or without a byte order mark. Columns are
    found by the header (``path``, ``file``, ``image`` …; ``label``, ``class`` …; ``split``, ``subset`` …, others are
    ignored); without one they are path, label and maybe split, and the first row names an existing file. Paths are
    relative to the list's folder. An image that does not exist is listed all the same; the audit reports it.

    Raises: DataError, naming the row, for a list that cannot be read so; for fewer than two labels.
    """
    path = Path(path)
    rows = _rows(path)
    at, has_header = _columns(rows[0][1], path)
    files: list[str] = []
    labels: list[str] = []
    splits: list[str] = []
    for number, cells in rows[1:] if has_header else rows:
        if len(cells) <= max(at.values()):
            raise _bad_row(path, number, f"it has {len(cells)} of {max(at.values()) + 1} columns")
        file, label = cells[at["path"]].strip(), cells[at["label"]].strip()
        split = cells[at["split"]].strip().lower() if "split" in at else ""
        if not file or not label:
            raise _bad_row(path, number, f"its {'label' if file else 'path'} is empty")
        if split and split not in SPLIT_NAMES:
            raise _bad_row(path, number, f"its split is '{split}', not train, validation or test")
        files.append(str(path.parent / file))
        labels.append(label)
        splits.append(SPLIT_NAMES[split] if split else "")
    class_names = check_classes(labels, f"'{path}'")
    number_of = {name: number for number, name in enumerate(class_names)}
    return LabelledImages(
        path.stem,
        str(path),
        class_names,
        tuple(files),
        np.array([number_of[label] for label in labels], np.int32),
        np.array(splits, str),
    )


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Row numbers, from 1, and cells of the rows that are not blank; at least one."""
    try:
        # Names that are not UTF-8 travel as they do in the file system.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            text = file.read()
    except OSError as error:
        raise DataError(f"the list cannot be read ({error.strerror})", received=f"'{path}'") from None
    if "\0" in text:
        raise DataError("a list is UTF-8 text", received=f"'{path}'", next_step="Save it as CSV UTF-8.")
    lines = text.splitlines(keepends=True)
    rows = list(_parsed(path, lines, _delimiter(next((line for line in lines if line.strip()), ""))))
    if not rows:
        raise DataError("the list is empty", received=f"'{path}'", next_step=_FORMAT)
    return rows


def _parsed(path: Path, lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _bad_row(path, number, str(error)) from None
        if any(cell.strip() for cell in cells):
            yield number, cells


def _delimiter(line: str) -> str:
    """The one that parts the first line into a header, else into the most cells."""

    def fits(delimiter: str) -> tuple[bool, int]:
        cells = line.strip("\r\n").split(delimiter)
        return len(_header(cells)) >= 2, len(cells)

    return max((",", ";", "\t"), key=fits)


def _header(cells: list[str]) -> dict[str, int]:
    words = [cell.strip().strip('"').lower() for cell in cells]
    return {
        column: next(words.index(synonym) for synonym in synonyms if synonym in words)
        for column, synonyms in COLUMNS.items()
        if set(synonyms) & set(words)
    }


def _columns(first: list[str], path: Path) -> tuple[dict[str, int], bool]:
    """Where the columns are, and whether the first row is a header."""
    header = _header(first)
    if {"path", "label"} <= set(header):
        return header, True
    if len(first) in (2, 3) and (path.parent / first[0].strip()).is_file():
        return dict(zip(("path", "label", "split"), range(len(first)), strict=False)), False
    raise DataError(
        "a list names its columns, or its first row names an existing file",
        received=f"'{printable(','.join(first)[:80])}' in '{path}'",
        next_step=_FORMAT,
    )


def _bad_row(path: Path, number: int, what: str) -> DataError:
    return DataError(f"line {number} of the list is wrong: {what}", received=f"'{path}'", next_step=_FORMAT)
