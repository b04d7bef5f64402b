"""The one reader of lists: CSV, TSV or text files, and Parquet files of paths, here or on any file system of fsspec."""

from __future__ import annotations

import csv
import glob
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from sys import intern

from tlkeras.data.containers import COLUMNS, parquet_pieces, parquet_rows
from tlkeras.data.dataset import Listing, Row, plural, split_named
from tlkeras.data.remote import is_remote, join, read_file
from tlkeras.errors import DataError, StorageError, printable

LIST_ENDINGS = (".csv", ".tsv", ".txt")
# Columns that say of one split whether a row belongs to it.
_FLAGS = {"is_valid": "validation", "is_val": "validation", "is_validation": "validation", "is_test": "test",
          "is_train": "train", "is_training": "train"}  # fmt: skip
_YES, _NO = ("1", "1.0", "true", "yes", "y", "t"), ("0", "0.0", "false", "no", "n", "f", "")
_FORMAT = (
    "Its first line is 'path,label' or 'path,label,split'; the path may be called file, filename, image, image_id …, "
    "the label class, class_name, category, breed …"
)
_ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_SAMPLE = 200
_NO_TEXT = re.compile("[\udc80-\udcff]")

_Cells = tuple[int, str, str, str, str]  # of one row: line number, path, label, group, split or flag as it is written


def read_list(name: str, *, need_labels: bool = True) -> Listing:
    """Read a list of images.

    The delimiter is a comma, a semicolon, a tab or a blank; the encoding UTF-8 with or without a byte order mark,
    UTF-16 with one, or else Windows-1252. Columns are found by the header (``COLUMNS``; ``is_valid`` and the like;
    others are named and not read); without one they are path, label and maybe split, and the first row names an
    existing file. A Parquet file of paths is a list too.

    Paths are relative to the list's folder; on this disk also to the working folder, the list's parent folder or a
    folder beside the list, whichever holds the files; backslashes and missing endings are understood where the file is
    there then. An image that does not exist is listed all the same, and counted in a note; the audit reports it.

    Raises: DataError, naming the line, for a list that cannot be read so, and where none of its files exist;
    StorageError when a file system refuses.
    """
    notes: list[str] = []
    is_parquet = name.lower().endswith(".parquet")
    cells = _parquet_cells(name) if is_parquet else _csv_cells(name, notes, need_labels)
    for number, path, label, *_ in cells:
        if not path or (need_labels and not label):
            raise _bad_row(name, number, f"its {'label' if path else 'path'} is empty")
        if label in ("nan", "NaN"):
            raise _bad_row(name, number, f"its label is '{label}', which stands for none")
    labels = _class_names({label for _, _, label, *_ in cells}, notes)
    find = _finder(name, [path for _, path, *_ in cells], notes)
    rows = [Row(find(path), labels[label], split, group=group) for _, path, label, group, split in cells]
    if grouped := {row.group for row in rows if row.group}:
        notes.append(f"{plural(len(grouped), 'group')} of photos that belong together")
    if not is_remote(name):
        missing = [row.path for row in rows if not is_remote(row.path) and not os.path.lexists(row.path)]
        if missing:
            notes.append(f"warning: {plural(len(missing), 'file')} of '{name}' not there ('{printable(missing[0])}' …)")
    return Listing(PurePosixPath(name).stem, name, rows, tuple(notes))


def _parquet_cells(name: str) -> list[_Cells]:
    pieces = parquet_pieces(name, 1)
    if pieces.has_bytes:
        raise DataError("a list holds paths, this Parquet file the images themselves", received=f"'{name}'",
                        next_step="'tlkeras extract' reads it; train on what it writes.")  # fmt: skip
    rows = parquet_rows(name, (pieces.image, pieces.label, pieces.split, pieces.group), pieces.class_names)
    return [
        (number, path or "", intern(label), intern(group), _split_of(name, number, "split", split))
        for number, (path, label, split, group) in enumerate(rows, 1)
    ]


def _csv_cells(name: str, notes: list[str], need_labels: bool) -> list[_Cells]:
    text = _text(name)
    lines = text.splitlines(keepends=True)
    first = next((line for line in lines if line.strip()), "")
    rows = _parsed(name, lines, _delimiter(name, first))
    _, header = next(rows, (0, []))
    if not header:
        raise DataError("the list is empty", received=f"'{name}'", next_step=_FORMAT)
    at = _columns(header)
    if "path" not in at or (need_labels and "label" not in at):
        if len(header) not in ((2, 3) if need_labels else (1, 2, 3)) or not _exists_here(name, header[0]):
            raise DataError(
                "a list names its columns, or its first row names an existing file",
                received=f"'{printable(first.strip()[:80])}' in '{name}'",
                next_step=_FORMAT,
            )
        at = dict(zip(("path", "label", "split"), range(len(header)), strict=False))
        rows = itertools.chain([(1, header)], rows)
    found: list[_Cells] = []
    width, last = len(header), max(at.values())
    column = next((column for column in at if column not in ("path", "label", "group")), "")
    for number, cells in rows:
        if len(cells) > width and any(cells[width:]):
            raise _bad_row(name, number, f"it has {len(cells)} cells, the header {width}; quote what holds a delimiter")
        if len(cells) <= last:
            raise _bad_row(name, number, f"it has {len(cells)} of {last + 1} columns")
        label, group, split = (intern(cells[at[key]]) if key in at else "" for key in ("label", "group", column))
        found.append((number, *_as_text(name, cells[at["path"]], label, notes), group, split))
    # "fold" and the like often counts something else.
    sure = not column or _key(header[at[column]]) in (*_FLAGS, *COLUMNS["split"][:2])
    if not (sure or any(split_named(split) for *_, split in found)):
        del at[column]
        column = ""
    unread = [cell for place, cell in enumerate(header) if cell and place not in at.values()]
    notes += [f"columns that are not read: {', '.join(unread)}"] if unread else []
    return [
        (number, path, label, group, _split_of(name, number, column, split) if column else "")
        for number, path, label, group, split in found
    ]


def _split_of(name: str, number: int, column: str, word: str) -> str:
    """The split that a cell of a column means: a word for it, or yes and no."""
    if column in _FLAGS:
        if word.lower() in _YES:
            return _FLAGS[column]
        if word.lower() not in _NO:
            raise _bad_row(name, number, f"its {column} is '{word}', not 0 or 1")
        return "test" if _FLAGS[column] == "train" else "train"
    if word and not split_named(word):
        raise _bad_row(name, number, f"its split is '{word}', not train, validation or test")
    return split_named(word)


def _text(name: str) -> str:
    """The list's text; what is not UTF-8 comes as in names of the file system."""
    try:
        data = read_file(name)
    except FileNotFoundError:
        raise DataError("there is no such list", received=f"'{name}'", next_step="Check the path.") from None
    except StorageError as error:
        raise DataError("the list cannot be read", received=f"'{name}' ({error})") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise DataError("a list is UTF-8 text", received=f"'{name}'", next_step="Save it as CSV UTF-8.")
    return data.decode("utf-8-sig", "surrogateescape")


def _as_text(name: str, path: str, label: str, notes: list[str]) -> tuple[str, str]:
    """Path and label of a list in Windows-1252; a path that the file system knows by its bytes stays."""

    def decoded(cell: str) -> str:
        raw = cell.encode("utf-8", "surrogateescape")
        if cell.isascii() or not _NO_TEXT.search(cell):
            return cell
        if "not UTF-8" not in (notes or [""])[-1]:
            notes.append("not UTF-8: the list is read as Windows-1252")
        return raw.decode("cp1252", "replace")

    known = not path.isascii() and not is_remote(name) and os.path.lexists(_full(os.path.dirname(name), path))  # noqa: PTH120 (names that are no text)
    return path if known else decoded(path), decoded(label)


def _parsed(name: str, lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers, from 1, and stripped cells of the rows that are not blank."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise _bad_row(name, number, str(error)) from None
        if any(cells):
            yield number, cells


def _delimiter(name: str, line: str) -> str:
    """The one that parts the first line into a header, else into the most cells; a blank where nothing else does."""
    line = line.strip("\r\n")

    def fits(delimiter: str) -> tuple[int, int]:
        cells = line.split(delimiter)
        return len(_columns(cells)), len(cells)

    best = max((",", ";", "\t"), key=fits)
    parts = line.split()
    if best not in line and len(parts) in (2, 3) and (len(_columns(parts)) > 1 or _exists_here(name, parts[0])):
        return " "
    return best


def _key(cell: str) -> str:
    return re.sub(r"[\s_.-]+", "_", cell.strip().strip('"').strip().lower())


def _columns(cells: Sequence[str]) -> dict[str, int]:
    """Where the columns of ``COLUMNS`` and the flags are."""
    words = [_key(cell) for cell in cells]
    at = {
        column: next(words.index(synonym) for synonym in synonyms if synonym in words)
        for column, synonyms in COLUMNS.items()
        if set(synonyms) & set(words)
    }
    flag = next((flag for flag in _FLAGS if flag in words and "split" not in at), "")
    return at | ({flag: words.index(flag)} if flag else {})


def _class_names(labels: set[str], notes: list[str]) -> dict[str, str]:
    """The class that each label means: accents are composed, and numbers written in one way."""
    names = {label: unicodedata.normalize("NFC", label) for label in labels}
    if any(label and not re.fullmatch(r"[+-]?\d+(\.0*)?", label) for label in labels):
        return names
    whole = {label: label.split(".")[0] for label in labels}
    if len(set(whole.values())) < len(labels):
        notes.append("labels are numbers: those with a point (1.0) are read as whole ones (1)")
    return whole


def _exists_here(name: str, path: str) -> bool:
    return not is_remote(name) and any(Path(_full(base, path)).is_file() for base in _bases(name))


def _bases(name: str) -> list[str]:
    """Folders of this disk that paths in a list may be relative to, the list's own first."""
    home = Path(name).parent
    beside = sorted(glob.glob(f"{glob.escape(str(home))}/*/"))[:50]  # noqa: PTH207 (names that are no text)
    return [str(home), ".", str(home.parent), *(folder.rstrip("/") for folder in beside)]


def _full(base: str, path: str) -> str:
    return path if path.startswith("/") or is_remote(path) else join(base, path)


def _finder(name: str, paths: list[str], notes: list[str]) -> Callable[[str], str]:
    """A function from a path in the list to the file's full name.

    Raises: DataError when none of the files of a list on this disk exist.
    """
    if is_remote(name) or not paths:
        home = name.rsplit("/", 1)[0]
        return lambda path: _full(home, path.replace("\\", "/") if "/" not in path else path)
    sample = [path for path in paths[:: max(1, len(paths) // _SAMPLE)] if path]

    def exists(base: str, path: str) -> str:
        for variant in dict.fromkeys((path, path.replace("\\", "/"))):
            full = _full(base, variant)
            try:
                if os.path.lexists(full):
                    return full
                if not PurePosixPath(variant).suffix or variant.rsplit(".", 1)[-1].isdigit():
                    for ending in _ENDINGS:
                        if os.path.lexists(full + ending):
                            return full + ending
            except ValueError:  # a null character
                continue
        return ""

    bases = _bases(name)
    found = {base: sum(bool(exists(base, path)) for path in sample) for base in bases}
    best = max(bases, key=found.__getitem__)  # the first of equals
    if sample and not any(found.values()) and not any(is_remote(path) for path in sample):
        raise DataError(
            "none of the list's files is there",
            received=f"'{printable(sample[0])}' in '{name}'",
            next_step=f"Paths are relative to the list's folder, '{bases[0]}', or absolute.",
        )
    if best != bases[0]:
        notes.append(f"paths are relative to '{best}'")
    return lambda path: exists(best, path) or _full(best, path)


def _bad_row(name: str, number: int, what: str) -> DataError:
    return DataError(f"line {number} of the list is wrong: {what}", received=f"'{name}'")
