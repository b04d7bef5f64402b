"""Numbered version folders as TensorFlow Serving reads them, ``NAME/1``, ``NAME/2`` …, whole from the first moment.

A version is filled in a hidden folder beside, which servers skip, and gets its number by one rename. Whoever is
killed before leaves a hidden folder without an owner; the next one to publish there removes it. Its ``manifest.json``
holds the SHA-256 of every file, and what the files came from.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkeras.errors import ExportError
from tlkeras.json_csv import read_json
from tlkeras.storage import disk_errors, sha256_of, sync, sync_tree, write_json

_PREFIX, _SUFFIX = ".export-", ".part"
MANIFEST_FILE = "manifest.json"
FORMAT, FORMAT_VERSION = "tlkeras-export", 1
_OWN_HASH = "manifest_sha256"


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


@dataclass(frozen=True)
class Changes:
    """How a version's files differ from its manifest, each by its path inside the version."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.added)

    def __str__(self) -> str:
        parts = [("changed", self.changed), ("missing", self.missing), ("added", self.added)]
        return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts if names)


def write_manifest(folder: Path, described: dict[str, Any]) -> dict[str, Any]:
    """Write plain values and the hash of every file in ``folder``, which must be complete; returns what was written."""
    paths = {name: folder / name for name in _in(folder)}
    files = {name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for name, path in paths.items()}
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **described, "files": files}
    manifest[_OWN_HASH] = _own_hash(manifest)
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``write_manifest`` wrote.

    Raises: ExportError when there is none, or it is not one that this version of tlkeras reads.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = read_json(path)
    except FileNotFoundError:
        what = f"it has no {MANIFEST_FILE}" if folder.is_dir() else "there is no such folder"
        raise ExportError(
            f"'{folder}' is not a published version: {what}", next_step="Give the folder DIR/NAME/NUMBER."
        ) from None
    except (OSError, ValueError) as error:
        raise ExportError(f"'{path}' cannot be read ({error})", next_step="Export again.") from None
    if manifest.get("format") != FORMAT:
        raise ExportError(f"'{path}' is not the manifest of a tlkeras export")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ExportError(
            f"'{path}' has format version {manifest.get('format_version')}, this tlkeras reads {FORMAT_VERSION}",
            next_step="Update tlkeras, or export again.",
        )
    if not isinstance(manifest.get("files"), dict):
        raise ExportError(f"'{path}' does not list the files", next_step="Export again.")
    return manifest


def changes(folder: Path, manifest: dict[str, Any]) -> Changes:
    """Compare the files on disk with the manifest, byte by byte; the manifest's own bytes count too."""
    listed, present = set(manifest["files"]), set(_in(folder))
    changed = [
        name
        for name in sorted(listed & present)
        if _readable_hash(folder / name) != dict(manifest["files"][name]).get("sha256")
    ]
    if manifest.get(_OWN_HASH) != _own_hash(manifest):
        changed.append(MANIFEST_FILE)
    return Changes(tuple(changed), tuple(sorted(listed - present)), tuple(sorted(present - listed)))


def _in(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(str(path.relative_to(folder)) for path in paths if path != folder / MANIFEST_FILE)


def _readable_hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""


def _own_hash(manifest: dict[str, Any]) -> str:
    content = {name: value for name, value in manifest.items() if name != _OWN_HASH}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
