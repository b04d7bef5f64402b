"""What the audit says of one image file, and the cache of what it has seen, by content."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import stat
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from tlkeras.errors import ImageError, printable
from tlkeras.images.decode import DecodedImage, Limits, decode
from tlkeras.json_csv import parse_json
from tlkeras.storage import cache_root

STATUSES = ("good", "repaired", "suspicious", "rejected")
# Counts up whenever the same bytes would get another Content; Pillow's version counts too.
RECIPE = 3
SMALL_PX = 32
HASH_SIDE = 16
UNIFORM_STD_255 = 2.0
EXTREME_ASPECT = 8.0
# The coarsest clock of a file system (FAT's).
TICK_NS = 2 * 10**9
# Microscopes and scanners write 10 or 12 bits into samples of 16, whose upper 8 are all that is seen.
DARK_BITS = 12


@dataclass(frozen=True)
class Content:
    """What the bytes of a file are, whatever its name and label.

    reason: why it cannot be decoded (``tlkeras.errors.ImageError``), or empty; detail: the same in words.
    width, height: upright size in pixels. repairs, unserved: as in ``DecodedImage``.
    dhash: 64 hexadecimal digits of the difference hash. doubts: what looks odd though it decodes, in words.
    """

    reason: str = ""
    detail: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    orientation: int = 1
    repairs: tuple[str, ...] = ()
    unserved: str = ""
    dhash: str = ""
    doubts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the audit says of one file.

    path, label (the class name) and split: as in the data set.
    status: ``good``; ``repaired`` (used, but changed on the way); ``suspicious`` (used, but look at it); ``rejected``.
    reason: a code, empty when good. Rejected: ``empty truncated not_an_image unsupported too_large unreadable missing
    duplicate conflict leak``. Suspicious: ``near_conflict near_duplicate dark uniform small extreme_aspect``. Repaired:
    ``misnamed turned converted``. detail: the same in words, everything that was found.
    sha256, dhash: hexadecimal, of the bytes and of the picture. width, height: upright, pixels.
    format: one of ``tlkeras.images.decode.FORMATS``. orientation: EXIF 1..8.
    unserved: why a served graph refuses the file, or empty. misnamed: the name's ending says another format.
    """

    path: str
    label: str
    split: str
    status: str
    reason: str = ""
    detail: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    orientation: int = 1
    unserved: str = ""
    dhash: str = ""
    misnamed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not printable in the path is escaped."""
        return dataclasses.asdict(self) | {"path": printable(self.path)}


def examine(data: bytes, limits: Limits, hand_on: Callable[[np.ndarray], None] | None = None) -> Content:
    """Decode the bytes of a file and look at the picture; never raises for any bytes.

    hand_on: is given the pixels, where there are any; see ``DecodedImage``.
    """
    try:
        image = decode(data, limits)
    except ImageError as error:
        return Content(reason=error.reason, detail=str(error))
    if hand_on is not None:
        hand_on(image.pixels)
    return content_of(image)


def content_of(image: DecodedImage) -> Content:
    """What a decoded image is; ``examine`` without the decoding."""
    doubts = []
    height, width = image.pixels.shape[:2]
    # A grid of some 64 × 64 pixels tells as much as all of a panorama, which would take gigabytes.
    sample = image.pixels[:: max(1, height // 64), :: max(1, width // 64)]
    # One row for each colour: NumPy is ten times slower along short, scattered axes.
    if float(np.ascontiguousarray(sample.reshape(-1, 3).T, np.float32).std(axis=1).max()) < UNIFORM_STD_255:
        doubts.append(("uniform", "almost one colour"))
    if 8 < image.bits <= DARK_BITS:
        shift = 16 - image.bits
        words = f"only {image.bits} of 16 bits are used: it is nearly black; multiply its samples by {2**shift}"
        doubts.insert(0, ("dark", words))
    if min(image.width, image.height) < SMALL_PX:
        doubts.append(("small", f"only {image.width} × {image.height} pixels"))
    if max(image.width, image.height) > EXTREME_ASPECT * min(image.width, image.height):
        doubts.append(("extreme_aspect", f"{image.width} × {image.height} pixels is a strip"))
    return Content(
        width=image.width,
        height=image.height,
        format=image.format,
        orientation=image.orientation,
        repairs=image.repairs,
        unserved=image.unserved,
        dhash=dhash(image.pixels).hex(),
        doubts=tuple(doubts),
    )


def dhash(pixels: np.ndarray) -> bytes:
    """The 32 bytes of the difference hash of uint8 ``[H, W, 3]`` pixels."""
    grey = Image.fromarray(pixels).convert("L")
    # A large photo is first made smaller by the mean of whole blocks, which takes a tenth of the time.
    small = grey.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    values = np.asarray(small, np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes()


def hashes_of(contents: list[str]) -> np.ndarray:
    """uint8 ``[N, 32]`` from hexadecimal difference hashes."""
    return np.frombuffer(bytes.fromhex("".join(contents)), np.uint8).reshape(-1, 32)


def mark_of(path: str) -> str:
    """What changes when a regular file is written again: device, inode, size, and when it was changed.

    Empty where nothing is there, and where the file changed so lately that it could change again within the same tick
    of its file system's clock, unseen (git calls such entries racy); so it is when the clock was put back.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 (thousands at a time)
    except (OSError, ValueError):
        return ""
    changed = max(found.st_mtime_ns, found.st_ctime_ns)
    if not stat.S_ISREG(found.st_mode) or changed + TICK_NS > time.time_ns():
        return ""
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


class ContentCache:
    """Content by sha256, kept in ``verdicts.sqlite`` of the cache folder; for threads and for many processes.

    The sha256 of a file that was read is kept by its ``mark_of`` too: one that still has it need not be read.

    A cache never stops the work: one that is damaged is thrown away, one that cannot be written is not used, both
    with a warning. ``put`` is seen by others after ``flush``.
    """

    def __init__(self, limits: Limits, path: Path | None = None) -> None:
        self._path = path or cache_root() / "verdicts.sqlite"
        self._recipe = f"{RECIPE} pillow {PIL.__version__} {limits.max_bytes} {limits.max_pixels}"
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, str, str]] = []
        self._seen: list[tuple[str, str]] = []
        self._database: sqlite3.Connection | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _warn(f"the cache of verdicts cannot be used ({error.strerror}); everything is examined anew")
            return
        self._guard(self._open)

    def get(self, sha256: str) -> Content | None:
        """What these bytes were found to be, or None when they have not been seen."""
        with self._lock:
            if self._database is None:
                return None
            return self._guard(lambda: self._read(sha256))

    def known(self, marks: Sequence[str]) -> dict[str, tuple[str, Content]]:
        """The sha256 and content of files by their marks, of all that have been seen, by one query."""
        with self._lock:
            if self._database is None or not any(marks):
                return {}
            return self._guard(lambda: self._read_known(marks)) or {}

    def put(self, sha256: str, content: Content) -> None:
        """Remember; written in short transactions of some hundred."""
        with self._lock:
            self._waiting.append((sha256, self._recipe, json.dumps(dataclasses.asdict(content))))
            if len(self._waiting) >= 256:
                self._guard(self._write)

    def saw(self, mark: str, sha256: str) -> None:
        """Remember which content the file with this mark has."""
        with self._lock:
            self._seen.append((mark, sha256))

    def flush(self) -> None:
        """Write what is still waiting and close."""
        with self._lock:
            self._guard(self._write)
            if self._database is not None:
                self._database.close()
                self._database = None

    def _open(self) -> None:
        # Waits for another process's transaction; those are short.
        self._database = sqlite3.connect(self._path, timeout=30, check_same_thread=False)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS contents (sha256 TEXT, recipe TEXT, content TEXT, PRIMARY KEY (sha256, recipe))"
        )
        self._database.execute("CREATE TABLE IF NOT EXISTS files (mark TEXT PRIMARY KEY, sha256 TEXT) WITHOUT ROWID")

    def _read(self, sha256: str) -> Content | None:
        assert self._database is not None
        rows = self._database.execute(
            "SELECT content FROM contents WHERE sha256 = ? AND recipe = ?", (sha256, self._recipe)
        )
        row = rows.fetchone()
        return _content(row[0]) if row is not None else None

    def _read_known(self, marks: Sequence[str]) -> dict[str, tuple[str, Content]]:
        assert self._database is not None
        rows = self._database.execute(
            "SELECT mark, sha256, content FROM json_each(?) AS asked JOIN files ON mark = asked.value"
            " JOIN contents USING (sha256) WHERE recipe = ?",
            (json.dumps([mark for mark in marks if mark]), self._recipe),
        )
        read = ((mark, sha256, _content(text)) for mark, sha256, text in rows)
        return {mark: (sha256, content) for mark, sha256, content in read if content is not None}

    def _write(self) -> None:
        if self._database is not None and (self._waiting or self._seen):
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", self._waiting)
                self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", self._seen)
        self._waiting.clear()
        self._seen.clear()

    def _guard(self, work: Any) -> Any:
        """Run ``work``; a damaged file is replaced by a new one, any other trouble ends the use of the cache."""
        try:
            return work()
        except sqlite3.OperationalError as error:
            _warn(f"the cache of verdicts '{self._path}' is not used ({error})")
            self._database = None
        except sqlite3.DatabaseError as error:
            _warn(f"the cache of verdicts '{self._path}' was damaged ({error}) and is made anew")
            if self._database is not None:
                self._database.close()
            self._database = None
            for end in ("", "-journal", "-wal", "-shm"):
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)
            try:
                self._open()
            except sqlite3.Error as second:
                _warn(f"the cache of verdicts '{self._path}' is not used ({second})")
                self._database = None
        return None


def _content(text: str) -> Content | None:
    """What a row says; None where something else has written it: the file is examined and the row written again."""
    try:
        fields = parse_json(text, what="a verdict")
        fields["repairs"] = tuple(fields["repairs"])
        fields["doubts"] = tuple((reason, detail) for reason, detail in fields["doubts"])
        return Content(**fields)
    except (ValueError, TypeError, KeyError):
        return None


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
