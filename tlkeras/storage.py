"""Files that are whole or not there: the cache folder, atomic writes, folders that appear at once."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkeras.errors import ConfigError, StorageError


def cache_root() -> Path:
    """The folder for everything that can be made again: ``TLKERAS_CACHE``, else the user's cache folder.

    Where it cannot be written a temporary one stands in for it, as long as this process lives, with a warning.
    """
    named = os.environ.get("TLKERAS_CACHE")
    if named:
        return _writable(Path(named).expanduser())
    # Imported here: it costs 10 ms that most commands do not need.
    import platformdirs

    return _writable(platformdirs.user_cache_path("tlkeras"))


@functools.lru_cache
def _writable(root: Path) -> Path:
    try:
        above = next(path for path in (root, *root.absolute().parents) if path.exists())
        refused = "" if above.is_dir() else "no folder"
        refused = refused or ("" if os.access(above, os.W_OK | os.X_OK) else "no permission to write")
    except OSError as error:
        refused = error.strerror or str(error)
    if not refused:
        return root
    stand_in = Path(tempfile.mkdtemp(prefix="tlkeras-cache-"))
    atexit.register(shutil.rmtree, stand_in, ignore_errors=True)
    warnings.warn(
        f"the cache folder '{root}' cannot be written ({refused}); going on without it, nothing is kept for the next "
        "run: set TLKERAS_CACHE to a folder that can",
        RuntimeWarning,
        stacklevel=3,
    )
    return stand_in


@contextlib.contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn the operating system's refusals to write ``path`` into StorageError."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: str | Path, error: OSError) -> StorageError:
    """The one-line error for a write that the operating system refused."""
    step = "Check the folder's permissions."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        step = "Free some space and start again; what was finished before is kept."
    return StorageError(f"cannot write '{path}' ({error.strerror or error})", next_step=step)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically: readers see the old content or the new, never a part.

    Raises: StorageError when the disk refuses; the old file is left as it was.
    """
    path = Path(path)
    staged = staged_name(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with staged.open("wb") as file, held(staged):
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write plain values as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # File names need not be UTF-8; JSON must be.
    write_bytes(path, text.encode(errors="backslashreplace"))


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def staged_folder(target: str | Path) -> Iterator[Path]:
    """Fill a hidden sibling folder that becomes ``target`` by one rename when the block ends well.

    ``target`` must not exist. When the block fails, nothing is left.

    Raises: StorageError when ``target`` exists or the disk refuses.
    """
    target = Path(target)
    staged = staged_name(target)
    new_parents = [parent for parent in staged.parents if not parent.exists()]
    with disk_errors(target):
        staged.mkdir(parents=True)
    try:
        with held(staged):
            yield staged
        with disk_errors(target):
            sync_tree(staged)
            # rename(2) would replace an empty folder of that name silently.
            if target.exists():
                raise StorageError(f"'{target}' exists already", next_step="Choose another name.")
            staged.rename(target)
            sync(target.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if not target.exists():
            for parent in new_parents:
                # Another process may have put something there meanwhile.
                with contextlib.suppress(OSError):
                    parent.rmdir()


def staged_name(target: Path) -> Path:
    """A hidden sibling that nobody has, to be written in place of ``target``; litter beside it is swept first."""
    _sweep(target.parent)
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")


@contextlib.contextmanager
def held(staged: Path) -> Iterator[None]:
    """Hold the lock on what is being written, which the system releases when this process dies, however it does."""
    import fcntl

    handle = os.open(staged, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems have no locks; nothing is swept there
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@functools.cache
def _sweep(folder: Path) -> None:
    """Delete what killed processes left of what they were writing in a folder; once in a process."""
    import fcntl

    for path in folder.glob(".*.????????.part"):
        # What was begun just now may not be locked yet; what bears a date to come is as old as any.
        with contextlib.suppress(OSError):
            if not re.fullmatch(r"\..+\.[0-9a-f]{8}\.part", path.name) or 0 <= time.time() - path.lstat().st_mtime < 60:
                continue
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(handle)


UNFINISHED = ".unfinished"


def unfinished(folder: str | Path) -> Path:
    """The folder beside ``folder`` that keeps a long run until it is finished."""
    folder = Path(folder)
    return folder.with_name(folder.name + UNFINISHED)


def new_folder(given: str | Path | None, parent: str | Path, stem: str) -> Path:
    """The folder that a command may write: the one that was asked for, or ``parent/stem-NUMBER``, not yet there.

    ``stem``: any text; only its last part counts where it is a path.

    Raises: ConfigError when the folder that was asked for exists.
    """
    return next(new_folders(given, parent, stem))


def new_folders(given: str | Path | None, parent: str | Path, stem: str) -> Iterator[Path]:
    """What ``new_folder`` may give, one after the other: numbers without end, or the one that was asked for."""
    if given is not None:
        if Path(given).exists():
            raise ConfigError(f"'{given}' exists already and stays as it is", next_step="Choose another --out.")
        if unfinished(given).exists():
            raise ConfigError(
                f"'{given}' was begun and is not finished",
                next_step=f"Go on with 'tlkeras train --resume {given}', or delete '{unfinished(given)}'.",
            )
        yield Path(given)
        return
    name = Path(stem).name or "result"
    for number in itertools.count(1):
        folder = Path(parent) / f"{name}-{number}"
        if not folder.exists() and not unfinished(folder).exists():
            yield folder


def sync_tree(folder: Path) -> None:
    """Wait until every file and every folder below ``folder``, and itself, are on the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Wait until one file's content, or one folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# What we keep in the cache folder: a pattern, and for a folder the file in it by which it is known to be ours. The
# folder itself may be anybody's: TLKERAS_CACHE can name one that holds other things too.
_CACHED = (
    ("verdicts.sqlite*", ""),
    ("weights.json", ""),
    ("weights/*.weights.h5", ""),
    ("engines/*-opset*.onnx", ""),  # of 0.1
    ("engines/*-opset*", "graph.json"),
    ("backbones/*.safetensors", ""),
    ("backbones/????????????????????????????????.json", ""),
    ("twins/*.json", ""),
    ("features/*", "space.json"),
    ("demo/*-seed*-n*", ""),
    ("tfds/*", "dataset.json"),
    ("onnxruntime-web-*", ""),
    # What was being written when a process was killed.
    (".*.????????.part", ""),
    *(
        (f"{folder}/.*.????????.part", "")
        for folder in ("weights", "engines", "backbones", "twins", "features", "demo", "tfds")
    ),
)


def clear_cache() -> tuple[int, list[str]]:
    """Delete what tlkeras keeps in the cache folder: (bytes that were freed, names in it that are not ours and stay).

    Raises: StorageError when the disk refuses.
    """
    root = cache_root()
    if not root.exists():
        return 0, []
    before = size_of(root)
    with disk_errors(root):
        for pattern, mark in _CACHED:
            for path in root.glob(pattern):
                if mark and not (path / mark).is_file():
                    continue
                if path.is_symlink() or not path.is_dir():
                    path.unlink()
                else:
                    shutil.rmtree(path)
        for folder in {root / pattern.split("/")[0] for pattern, _ in _CACHED if "/" in pattern}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        left = sorted(path.name for path in root.iterdir())
        freed = before - size_of(root)
        if not left:
            root.rmdir()
    return freed, left
