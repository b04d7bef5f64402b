"""``manifest.json`` of a published version: every file's SHA-256, and what the files came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkeras.errors import ExportError
from tlkeras.json_csv import read_json
from tlkeras.storage import sha256_of, write_json

MANIFEST_FILE = "manifest.json"
FORMAT, FORMAT_VERSION = "tlkeras-export", 1
_OWN_HASH = "manifest_sha256"


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
