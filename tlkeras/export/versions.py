"""Numbered version folders as TensorFlow Serving reads them, ``NAME/1``, ``NAME/2`` …, whole from the first moment.

A version is filled in a hidden folder beside, which servers skip, and gets its number by one rename. Whoever is
killed before leaves a hidden folder without an owner; the next one to publish there removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from tlkeras.storage import disk_errors, sync, sync_tree

_PREFIX, _SUFFIX = ".export-", ".part"


def versions_in(folder: Path) -> list[int]:
    """The numbers that are taken in ``folder``, ascending; empty when it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isascii() and path.name.isdecimal())


@contextlib.contextmanager
def staged_version(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, inside ``folder``, which is made; what ``publish`` has not renamed is removed.

    Raises: StorageError when the disk refuses.
    """
    with disk_errors(folder):
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        staged, lock = _claimed(folder)
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        os.close(lock)
        if made:
            with contextlib.suppress(OSError):  # not empty: a version was published
                folder.rmdir()


def publish(staged: Path) -> Path:
    """Give a filled folder the next free number by one rename, with everything on the disk before and after.

    Raises: StorageError when the disk refuses; nothing has changed then.
    """
    folder = staged.parent
    with disk_errors(folder):
        sync_tree(staged)
        while True:
            target = folder / str(max(versions_in(folder), default=0) + 1)
            try:
                staged.rename(target)
            except OSError as error:
                # Someone else took the number in between: rename(2) refuses to replace a filled folder or a file.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not target.exists():
                    raise
            else:
                sync(folder)
                sync(folder.parent)
                return target


def _claimed(folder: Path) -> tuple[Path, int]:
    """A new hidden folder, and the open handle whose lock says that its owner lives."""
    while True:
        staged = folder / f"{_PREFIX}{uuid.uuid4().hex[:12]}{_SUFFIX}"
        staged.mkdir()
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(staged, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Between its making and its locking someone may have swept it away.
            if staged.is_dir():
                return staged, lock
            os.close(lock)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            lock = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # its owner lives
        finally:
            os.close(lock)
