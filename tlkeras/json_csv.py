"""The one reader of JSON, and the one writer and reader of CSV: what is read may come from a stranger."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tlkeras.errors import FormatError

# No JSON that is written here is larger or nested deeper; a stranger's may be, to cost memory or the stack.
MOST_JSON_BYTES = 256 * 1024 * 1024
MOST_JSON_DEPTH = 32


def read_json(path: str | Path, schema: Any = dict, *, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """The one reader of JSON files: plain values that fit ``schema`` (see ``parse_json``).

    Raises: FormatError when the file is not that; OSError when it cannot be read.
    """
    with Path(path).open("rb") as file:
        # A device or a pipe has no end.
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FormatError(f"'{path}' is no regular file")
        return parse_json(file.read(most_bytes + 1), schema, what=f"'{path}'", most_bytes=most_bytes)


def parse_json(data: bytes | str, schema: Any = dict, *, what: str, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """Plain values from JSON, which may come from a stranger. ``what``: how an error calls it.

    ``schema``: what the values must be. A type (``float`` takes whole numbers too, ``int`` no bool), ``None``, a tuple
    of alternatives, ``[schema]`` for a list, ``{"name": schema, ...}`` for fields that must be there, others may be.

    Raises: FormatError for what is too large, nested too deeply, no JSON (NaN is none), or does not fit.
    """
    data = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    if len(data) > most_bytes:
        raise FormatError(f"{what} is larger than the {most_bytes:,} bytes that are read of such a file")
    # Only brackets outside strings are left; each round takes the innermost away.
    brackets = re.sub(rb'"(?:[^"\\]|\\.)*"|[^][{}"]+', b"", data, flags=re.DOTALL)
    for _ in range(MOST_JSON_DEPTH):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise FormatError(f"{what} is no JSON of at most {MOST_JSON_DEPTH} levels")
    try:
        value = json.loads(data, parse_constant=_no_number)
    except ValueError as error:
        raise FormatError(f"{what} is no JSON ({error})") from None
    if fault := _misfit(value, schema):
        raise FormatError(f"{what} holds something else than it should: {fault}")
    return value


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _misfit(value: Any, schema: Any, name: str = "the whole") -> str:
    """Where a value does not fit a schema, in words; empty when it does."""
    if isinstance(schema, tuple):
        faults = [_misfit(value, one, name) for one in schema]
        return "" if "" in faults else faults[-1]
    kind = schema if isinstance(schema, type) else type(schema)
    # bool is a kind of int in Python, and 1 is as good a float as 1.0.
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        return f"{name} is {type(value).__name__}, not {kind.__name__}"
    if isinstance(schema, list):
        return next((fault for item in value if (fault := _misfit(item, schema[0], f"an item of {name}"))), "")
    if isinstance(schema, dict):
        for key, inner in schema.items():
            if key not in value:
                return f"{key!r} is missing"
            if fault := _misfit(value[key], inner, repr(key)):
                return fault
    return ""


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """The one writer of CSV: a table as the bytes of a file; file names that are not UTF-8 keep their bytes.

    Text that a spreadsheet would run as a formula gets an apostrophe in front, which ``read_csv`` takes away.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_as_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return buffer.getvalue().encode(errors="surrogateescape")


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """The rows of a file that ``csv_bytes`` made, by the names of its header.

    Raises: FormatError when it is no such file; OSError when it cannot be read.
    """
    with Path(path).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FormatError(f"'{path}' is no regular file")
        try:
            reader = csv.DictReader(file, strict=True)
            rows = [{name: _from_text(cell) for name, cell in row.items()} for row in reader]
        except (csv.Error, TypeError, AttributeError) as error:
            raise FormatError(f"'{path}' is no CSV file of tlkeras ({error})") from None
    return rows


def _as_text(cell: str) -> str:
    return f"'{cell}" if re.match(r"'*[=+\-@\t\r]", cell) else cell


def _from_text(cell: str) -> str:
    return cell[1:] if re.match(r"'+[=+\-@\t\r]", cell) else cell
