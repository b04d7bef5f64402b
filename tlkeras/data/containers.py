"""Images inside larger files: rows of Parquet files, and TFRecords as TFDS and ``tf.data`` write them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tlkeras.data.remote import join, open_file, read_file
from tlkeras.errors import DataError
from tlkeras.images.decode import Limits
from tlkeras.json_csv import parse_json

# What lists call their columns, in lower case with single underscores; the first that is there is taken.
COLUMNS = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path"),
        *("image_name", "filepaths", "filenames", "images", "photo", "picture", "fname", "image_id", "img_id", "id"),
    ),
    "label": (
        *("class_name", "label_name", "category_name", "label", "class", "category", "target", "labels", "breed"),
        *("species", "class_label", "class_id", "label_id", "category_id"),
    ),
    "group": (
        *("group", "group_id", "patient", "patient_id", "subject", "subject_id", "video", "video_id"),
        *("individual", "individual_id", "animal_id", "plant_id", "specimen_id"),
    ),
    "split": ("split", "subset", "set", "partition", "data_set", "dataset", "phase", "usage", "fold"),
}
_BYTES_COLUMNS = ("image", "bytes", "image_bytes", "content", "jpeg", "jpg", "png", "data", "image/encoded")
_LABEL_KEYS = ("label", "image/class/label", "image/class/text", "class", "fine_label")
_BATCH_ROWS = 64
# Bytes of a text in a cell, a path of 4,096 escaped bytes at most; an image with its label in a TFRecord.
_MOST_TEXT = 32 * 1024
_MOST_RECORD = Limits().max_bytes + 2**20

Row = tuple[str, str, str, bytes]  # name for people, class, split, the bytes of the image


@dataclass(frozen=True)
class Pieces:
    """What one Parquet file holds.

    image, label, split, group: names of its columns, empty where there is none. has_bytes: whether images are bytes,
    not paths. row_groups: ranges of about the rows that a shard takes.
    """

    image: str
    label: str
    split: str
    has_bytes: bool
    class_names: tuple[str, ...]
    row_groups: tuple[tuple[int, int], ...]
    rows: int
    group: str = ""


@contextlib.contextmanager
def open_parquet(name: str, texts: Sequence[str] = ()) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetFile`` anywhere; ``texts``: columns to be read for ``cells``.

    Raises: DataError when it is none; StorageError when the file system refuses.
    """
    import pyarrow
    import pyarrow.parquet

    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(name))
            parquet = pyarrow.parquet.ParquetFile(file, read_dictionary=list(texts), page_checksum_verification=True)
        except FileNotFoundError:
            raise DataError("there is no such file", received=f"'{name}'") from None
        except pyarrow.ArrowInvalid as error:
            raise DataError("this is no Parquet file, or a damaged one", received=f"'{name}' ({error})") from None
        try:
            yield parquet
        except (pyarrow.ArrowInvalid, pyarrow.ArrowIOError) as error:
            raise DataError("the Parquet file is damaged", received=f"'{name}' ({error})") from None


def parquet_pieces(name: str, rows_a_shard: int) -> Pieces:
    """Find the columns of a Parquet file of images, and part it.

    Images are a column of bytes (``image``, ``bytes`` …), a struct with a field ``bytes`` (as Hugging Face writes
    it), or a column of paths (``path``, ``file`` …).

    Raises: DataError when there is none of them.
    """
    import pyarrow

    with open_parquet(name) as file:
        schema = file.schema_arrow
        by_name = {field.name.lower(): field for field in schema}

        def first(words: tuple[str, ...], fits: Callable[[Any], bool]) -> str:
            return next((by_name[word].name for word in words if word in by_name and fits(by_name[word].type)), "")

        def is_bytes(kind: Any) -> bool:
            kind = (
                kind.field("bytes").type
                if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
                else kind
            )
            return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

        def is_text(kind: Any) -> bool:
            return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))

        image = first(_BYTES_COLUMNS, is_bytes)
        has_bytes = bool(image)
        image = image or first(COLUMNS["path"], is_text)
        if not image:
            raise DataError(
                "a Parquet file of images has a column of their bytes (image, bytes …) or paths (path, file …)",
                received=f"{', '.join(schema.names)} in '{name}'",
            )
        label = first(COLUMNS["label"], lambda kind: is_text(kind) or pyarrow.types.is_integer(kind))
        split = first(COLUMNS["split"], is_text)
        group = first(COLUMNS["group"], is_text)
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    groups: list[tuple[int, int]] = []
    start = held = 0
    for number, count in enumerate(counts):
        if held and held + count > rows_a_shard:
            groups.append((start, number))
            start, held = number, 0
        held += count
    if held:
        groups.append((start, len(counts)))
    return Pieces(image, label, split, has_bytes, _class_names(schema, label), tuple(groups), sum(counts), group)


def _class_names(schema: Any, label: str) -> tuple[str, ...]:
    """The names behind numbers, where Hugging Face's metadata tells them."""
    try:
        features = parse_json(schema.metadata[b"huggingface"], {"info": {"features": dict}}, what="its description")[
            "info"
        ]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def cells(column: Any) -> list[Any]:
    """The values of a column; of text, opened as one of ``texts``, so that what comes again and again is held once.

    Raises: ValueError for a text longer than any path.
    """
    import pyarrow
    import pyarrow.compute

    for part in getattr(column, "chunks", [column]):
        if pyarrow.types.is_dictionary(part.type):
            longest = pyarrow.compute.max(pyarrow.compute.binary_length(part.dictionary)).as_py() or 0
            if longest > _MOST_TEXT:
                raise ValueError(f"a text of {longest:,} bytes")
    return list(column.to_pylist())


def parquet_rows(
    name: str, columns: tuple[str, ...], class_names: tuple[str, ...], groups: range | None = None
) -> Iterator[tuple[Any, ...]]:
    """Rows of (image: bytes or path, class, further columns as text); only some rows are in memory at once.

    ``groups``: row groups of images' bytes; None for all rows of a list of paths.
    """
    wanted = [column for column in columns if column]
    # A file of 10 KB can hold one image of 300 MB a thousand times: of those there is one in memory.
    rows = {"batch_size": _BATCH_ROWS} if groups is None else {"batch_size": 1, "row_groups": list(groups)}
    with open_parquet(name, wanted if groups is None else ()) as file:
        for batch in file.iter_batches(columns=wanted, **rows):
            try:
                values = {column: cells(batch.column(column)) for column in wanted}
            except ValueError as error:
                raise DataError("a cell holds a path or a class", received=f"{error} in '{name}'") from None
            for row in range(batch.num_rows):
                image = values[columns[0]][row]
                image = image.get("bytes") if isinstance(image, dict) else image
                label, *texts = (values[column][row] if column else "" for column in columns[1:])
                yield image, class_name(label, class_names, name), *(text or "" for text in texts)


def class_name(label: Any, class_names: tuple[str, ...], where: str) -> str:
    """The class that a label, a text or a number, stands for; empty for none and for TFDS's -1."""
    if label is None or label == "" or label == -1:
        return ""
    if isinstance(label, bytes):
        return label.decode("utf-8", "replace")
    if isinstance(label, str) or not class_names:
        return str(label)
    if not 0 <= label < len(class_names):
        raise DataError(f"labels lie in 0..{len(class_names) - 1}", received=f"{label} in '{where}'")
    return class_names[label]


def tfrecord_classes(folder: str) -> tuple[str, ...]:
    """The class names that TFDS has written beside its records (``label.labels.txt``); none where it has not."""
    for key in ("label", "fine_label"):
        with contextlib.suppress(FileNotFoundError):
            return tuple(read_file(join(folder, f"{key}.labels.txt")).decode().split("\n")[:-1] or ())
    return ()


def tfrecord_rows(name: str, split: str, class_names: tuple[str, ...]) -> Iterator[Row]:
    """The images of a file of ``tf.train.Example`` records.

    The image is the feature ``image``, ``image/encoded`` or the only one of bytes that is an image; the class is
    ``label``, ``image/class/label`` … . The checksums of records are not looked at: the images' own decoder is.

    Raises: DataError for a file that is cut off, or records that hold no image.
    """
    import tensorflow as tf

    for number, record in enumerate(_records(name)):
        try:
            features = tf.train.Example.FromString(record).features.feature
        # protobuf's DecodeError is not part of its public interface in every version.
        except Exception as error:
            raise DataError(
                "a TFRecord holds no tf.train.Example", received=f"record {number} of '{name}' ({error})"
            ) from None
        images = [key for key in _BYTES_COLUMNS if key in features and features[key].bytes_list.value]
        if not images:
            raise DataError(
                "a record holds an image's bytes (image, image/encoded …)",
                received=f"{', '.join(sorted(features))} in record {number} of '{name}'",
            )
        label: Any = None
        for key in _LABEL_KEYS:
            if key in features:
                label = next(iter((*features[key].int64_list.value, *features[key].bytes_list.value)), None)
                break
        data = features[images[0]].bytes_list.value[0]
        yield f"{name}#{number}", class_name(label, class_names, name), split, data


def _records(name: str) -> Iterator[bytes]:
    try:
        with open_file(name) as file:
            while head := file.read(12):
                (length,) = struct.unpack("<Q", head[:8]) if len(head) == 12 else (0,)
                if length > _MOST_RECORD:
                    raise DataError(f"a record has at most {_MOST_RECORD:,} bytes", received=f"{length:,} in '{name}'",
                                    next_step="If it should not, the file is damaged: copy it again.")  # fmt: skip
                body = file.read(length + 4) if len(head) == 12 else b""
                if len(body) != length + 4 or len(head) != 12:
                    raise DataError("the TFRecord file is cut off", received=f"'{name}'", next_step="Copy it again.")
                yield body[:-4]
    except FileNotFoundError:
        raise DataError("there is no such file", received=f"'{name}'") from None
