"""Shards of a large job: Parquet files that appear whole, and the list of those that belong together.

A folder, on this disk or on any file system that fsspec knows, holds ``task.json`` (what is computed, written first),
``part-NUMBER-HASH.parquet`` (a row for every image, rejected ones too) and ``features.json`` or ``predictions.json``
(the shards that belong to the result, written last). A shard's name follows from its images and the recipe: two
workers that compute the same shard write the same file, so nothing is there twice.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.data.containers import cells, open_parquet
from tlkeras.data.remote import is_remote, join, names_in, open_file, read_file, write_whole
from tlkeras.engines import PRECISIONS
from tlkeras.errors import ConfigError, DataError, TlkerasError
from tlkeras.json_csv import parse_json

FORMAT_VERSION = 1
TASK_FILE = "task.json"
KINDS = ("features", "predictions")
_TEXT_COLUMNS = ("key", "path", "label", "split", "status", "reason", "detail", "format", "dhash")
_SIZES = ("width", "height")
_PATTERNS = {"status": re.compile("good|repaired|suspicious|rejected"), "dhash": re.compile("(?:[0-9a-f]{64})?")}
_META = b"tlkeras"


@dataclass
class Rows:
    """The rows of one shard while it grows; ``answers``: for each row float32 ``[D]``, or None for a rejected image."""

    texts: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in _TEXT_COLUMNS})
    width: list[int] = field(default_factory=list)
    height: list[int] = field(default_factory=list)
    answers: list[np.ndarray | None] = field(default_factory=list)

    def add(self, texts: dict[str, str], width: int, height: int, answer: np.ndarray | None = None) -> int:
        """Append an image; returns its row."""
        for name, values in self.texts.items():
            # Parquet holds UTF-8; names of files need not be.
            values.append(texts.get(name, "").encode("utf-8", "backslashreplace").decode())
        self.width.append(width)
        self.height.append(height)
        self.answers.append(answer)
        return len(self.answers) - 1

    @property
    def rejected(self) -> int:
        """How many rows have no answer."""
        return sum(answer is None for answer in self.answers)


@dataclass(frozen=True)
class Shard:
    """A shard that is whole: name of its file without the ending, rows, and how many of them are rejected."""

    name: str
    rows: int
    rejected: int


def encode(rows: Rows, kind: str, size: int, name: str, class_names: Sequence[str] = ()) -> bytes:
    """The Parquet file of a shard.

    ``kind``: of ``KINDS``; ``size``: numbers in an answer; ``class_names``: what the numbers of a prediction stand for.
    """
    import pyarrow
    import pyarrow.parquet

    columns: dict[str, Any] = {key: pyarrow.array(values, pyarrow.string()) for key, values in rows.texts.items()}
    columns["width"] = pyarrow.array(rows.width, pyarrow.int32())
    columns["height"] = pyarrow.array(rows.height, pyarrow.int32())
    answered = np.array([answer is not None for answer in rows.answers], bool)
    flat = np.zeros((len(rows.answers), size), np.float32)
    for row in np.flatnonzero(answered):
        flat[row] = rows.answers[row]
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat.ravel(), size, mask=pyarrow.array(~answered))
    if kind == "predictions":
        best = flat.argmax(axis=1)
        columns["predicted"] = pyarrow.array(
            [class_names[k] if known else None for k, known in zip(best, answered, strict=True)], pyarrow.string()
        )
        top = flat.max(axis=1, initial=0.0)
        columns["probability"] = pyarrow.array(top, pyarrow.float32(), mask=~answered)
        columns["probabilities"] = vectors
    else:
        columns["features"] = vectors
    described = {"format_version": FORMAT_VERSION, "name": name, "rows": len(answered), "rejected": rows.rejected}
    table = pyarrow.table(columns).replace_schema_metadata({_META: json.dumps(described)})
    buffer = io.BytesIO()
    # Vectors of floats do not get smaller, and dictionaries of them only cost time.
    text = [column for column in columns if column not in ("features", "probabilities")]
    pyarrow.parquet.write_table(
        table,
        buffer,
        compression={column: "zstd" if column in text else "none" for column in columns},
        use_dictionary=text,
        write_page_checksum=True,
    )
    return buffer.getvalue()


def write_shard(folder: str, rows: Rows, kind: str, size: int, name: str, class_names: Sequence[str] = ()) -> Shard:
    """Write one shard; it appears whole or not at all.

    Raises: StorageError when the disk or the service refuses.
    """
    write_whole(join(folder, f"{name}.parquet"), encode(rows, kind, size, name, class_names))
    return Shard(name, len(rows.answers), rows.rejected)


def describe_shard(folder: str, name: str) -> Shard:
    """What a finished shard says of itself; only its last bytes are read."""
    with open_parquet(join(folder, f"{name}.parquet")) as file:
        try:
            described = parse_json(file.schema_arrow.metadata[_META], {"rows": int, "rejected": int}, what=name)
            return Shard(name, int(described["rows"]), int(described["rejected"]))
        except (KeyError, TypeError, ValueError):
            raise DataError("this is no shard of tlkeras", received=f"'{join(folder, name)}.parquet'",
                            next_step="Remove it, and start again.") from None  # fmt: skip


def begin(folder: str, task: dict[str, Any]) -> set[str]:
    """Claim a folder for a task; returns the names of the shards that are finished there.

    Raises: ConfigError when the folder holds another task's shards, or other files; StorageError.
    """
    names = names_in(folder)
    if TASK_FILE in names:
        if parse_json(read_file(join(folder, TASK_FILE)), what=join(folder, TASK_FILE)) != task:
            raise ConfigError(
                "a folder holds the shards of one recipe",
                received=f"'{folder}', which was begun with other data, another network or other options",
                next_step="Choose another --to, or repeat the first command.",
            )
    elif names:
        raise ConfigError("--to is a new folder, or one that this command began", received=f"'{folder}' with "
                          f"'{min(names)}'", next_step="Choose another --to.")  # fmt: skip
    else:
        write_whole(join(folder, TASK_FILE), _json(task))
    return {name.removesuffix(".parquet") for name, size in names.items() if name.endswith(".parquet") and size}


def finish(folder: str, kind: str, shards: Sequence[Shard], described: dict[str, Any]) -> None:
    """Write the list of shards: from now on the folder is a result."""
    manifest = {
        "format": f"tlkeras-{kind}",
        "format_version": FORMAT_VERSION,
        **described,
        "rows": sum(shard.rows for shard in shards),
        "rejected": sum(shard.rejected for shard in shards),
        "shards": [asdict(shard) for shard in shards],
    }
    write_whole(join(folder, f"{kind}.json"), _json(manifest))


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="backslashreplace")


def is_result(folder: str) -> bool:
    """Whether this is a folder of features, finished or not."""
    try:
        return bool({"features.json", TASK_FILE} & set(names_in(folder)))
    except (OSError, DataError):
        return False


_SHARD = {"name": str, "rows": int, "rejected": int}
_NAME = re.compile(r"\w[\w.-]*")
# As ``FeatureSpace`` has it, whose last two were not always written.
_SPACE = {"backbone": str, "weights_sha256": str, "size_px": int, "fit": str, "feature_size": int}
_SPACE_LATER = {"view": "plain", "precision": "fp32"}
_MANIFEST = {"format": str, "format_version": int, "shards": [_SHARD], "space": _SPACE, "rows": int}


def holds_features(data: str) -> bool:
    """Whether ``data`` names a folder that ``tlkeras extract`` wrote or began."""
    return ("://" in data or Path(data).is_dir()) and is_result(data)


class ShardSet:
    """A finished folder of features or predictions, read in pieces: no more than one shard is in memory.

    space: the recipe, see ``FeatureSpace``, as plain values.
    """

    def __init__(self, folder: str, kind: str = "features") -> None:
        self.folder = folder if is_remote(folder) else str(folder)
        self.kind = kind
        try:
            self.manifest = manifest = parse_json(
                read_file(join(folder, f"{kind}.json")), _MANIFEST, what=f"{kind}.json"
            )
            if manifest["format"] != f"tlkeras-{kind}" or manifest["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format {manifest['format']} {manifest['format_version']}")
            self.shards = tuple(Shard(**shard) for shard in manifest["shards"])
            self.space: dict[str, Any] = {**_SPACE_LATER, **manifest["space"]}
            self._check()
        except FileNotFoundError:
            if TASK_FILE in names_in(folder):
                raise DataError(f"the {kind} in '{folder}' are not finished",
                                next_step="Give the command that began them again; it goes on.") from None  # fmt: skip
            raise DataError(f"there are no {kind}", received=f"'{folder}'") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"'{folder}' has a {kind}.json that cannot be used ({error})") from None

    def _check(self) -> None:
        names = {shard.name for shard in self.shards}
        if odd := [name for name in names if not _NAME.fullmatch(name)]:
            raise ValueError(f"a shard called {odd[0]!r}")
        if len(names) != len(self.shards):
            raise ValueError("the same shard twice")
        if any(not 0 <= shard.rejected <= shard.rows for shard in self.shards):
            raise ValueError("shards with more images rejected than there are")
        if self.manifest["rows"] != len(self):
            raise ValueError(f"{self.manifest['rows']:,} rows, its shards {len(self):,}")
        if set(self.space) != {*_SPACE, *_SPACE_LATER}:
            raise ValueError(f"a recipe of other things than {', '.join([*_SPACE, *_SPACE_LATER])}")
        if self.space["precision"] not in PRECISIONS:
            raise ValueError(f"precision {self.space['precision']!r}")

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Small columns of all rows in order; the vectors are not read.

        Raises: DataError for a shard that is missing or damaged.
        """
        found: dict[str, list[Any]] = {name: [] for name in names}
        for number in range(len(self.shards)):
            for name, values in self.table(number, names).items():
                found[name] += values
        return found

    def table(self, number: int, names: Sequence[str]) -> dict[str, list[Any]]:
        """Small columns of shard ``number``."""
        shard = self.shards[number]
        table = self._table(shard, list(names))
        with _damaged(self._path(shard)):
            for name in {*_TEXT_COLUMNS, *_SIZES} & set(names):
                column, wanted = table.column(name), "string" if name in _TEXT_COLUMNS else "int32"
                if column.null_count or str(getattr(column.type, "value_type", column.type)) != wanted:
                    raise ValueError(f"{name} is not {wanted} everywhere")
            found = {name: cells(table.column(name)) for name in names}
            for name in _PATTERNS.keys() & found.keys():
                if odd := next((value for value in set(found[name]) if not _PATTERNS[name].fullmatch(value)), None):
                    raise ValueError(f"{name} {odd!r}")
        return found

    def vectors(self, number: int) -> np.ndarray:
        """The answers of shard ``number``, float32 ``[rows, D]``, zero in rows of rejected images."""
        import pyarrow

        column = "features" if self.kind == "features" else "probabilities"
        shard = self.shards[number]
        table = self._table(shard, [column])
        with _damaged(self._path(shard)):
            values = table.column(column).combine_chunks()
            size = self.space["feature_size"] if self.kind == "features" else getattr(values.type, "list_size", 0)
            if values.type != pyarrow.list_(pyarrow.float32(), size):
                raise ValueError(f"{values.type} where {size} numbers a row were promised")
            flat = values.values.to_numpy(zero_copy_only=False)
            return flat[values.offset * size : (values.offset + len(values)) * size].reshape(len(values), size)

    def batches(self, order: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(first row of the shard, its vectors) for the shards in ``order``."""
        starts = np.concatenate([[0], np.cumsum([shard.rows for shard in self.shards])])
        for number in order:
            yield int(starts[number]), self.vectors(number)

    def _path(self, shard: Shard) -> str:
        return join(self.folder, f"{shard.name}.parquet")

    def _table(self, shard: Shard, names: list[str]) -> Any:
        import pyarrow.parquet

        path = self._path(shard)
        with _damaged(path), open_file(path) as file:
            texts = [name for name in names if name in _TEXT_COLUMNS]
            parquet = pyarrow.parquet.ParquetFile(file, read_dictionary=texts, page_checksum_verification=True)
            if parquet.metadata.num_rows != shard.rows:
                raise DataError("a shard has other rows than its list says", received=f"'{path}'")
            return parquet.read(columns=names)


@contextlib.contextmanager
def _damaged(path: str) -> Iterator[None]:
    """Turn what is wrong with a shard's file into DataError."""
    import pyarrow

    try:
        yield
    except FileNotFoundError:
        raise DataError("a shard is missing", received=f"'{path}'", next_step=_AGAIN) from None
    except TlkerasError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise DataError("a shard is damaged", received=f"'{path}' ({error})", next_step=_AGAIN) from None


_AGAIN = "Remove it, and give the command that made it again: only what is missing is computed."
