"""What several processes may not do at once; every lock is gone when its process is."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tlkeras.errors import ConfigError
from tlkeras.storage import disk_errors, new_folder, new_folders


@contextlib.contextmanager
def reserved(given: str | Path | None, parent: str | Path, stem: str) -> Iterator[Path]:
    """A ``new_folder`` whose name no other process is given while the block runs; a killed one holds nothing.

    Raises: ConfigError when the folder that was asked for exists or another process is about to write it;
    StorageError when it cannot be written.
    """
    for folder in new_folders(given, parent, stem):
        lock = folder.with_name(f".{folder.name}.lock")
        new_parents = [above for above in folder.parents if not above.exists()]
        with disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            handle = lock_file(lock)
        if handle is None:
            continue
        try:
            # Another process may have finished it just before the name was ours.
            if not folder.exists():
                yield folder
                return
        finally:
            lock.unlink(missing_ok=True)
            os.close(handle)
            for above in new_parents:
                with contextlib.suppress(OSError):  # not empty
                    above.rmdir()
    new_folder(given, parent, stem)  # it may be there by now
    raise ConfigError(f"another process is writing '{given}'", next_step="Wait for it, or choose another --out.")


def lock_file(path: Path) -> int | None:
    """A handle that holds the lock on a file, which is made; None where another process has it."""
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        # Whoever had it may have removed the file, and a third one made it anew.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Whether this process is alone to work in a folder while the block runs: the others are told False."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        yield alone
    finally:
        os.close(handle)
