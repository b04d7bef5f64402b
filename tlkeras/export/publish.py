"""Building, checking and publishing a version: all of it, or nothing.

Versions are numbered folders as TensorFlow Serving reads them, ``NAME/1``, ``NAME/2`` …, whole from the first moment.
One is filled in a hidden folder beside, which servers skip, and gets its number by one rename. Whoever is killed
before leaves a hidden folder without an owner; who publishes there later removes it.

A version folder holds the files of its formats (``tlkeras.export.formats``), the classifier itself in
``assets.extra/classifier``, so that the check can be repeated anywhere, ``labels.txt``, ``MODEL_CARD.md`` and
``manifest.json``, which has the SHA-256 of every file and tells what the files came from.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlkeras.errors import ExportError, ParityError
from tlkeras.export.card import CARD_FILE, model_card
from tlkeras.export.formats import FORMATS, ExportConfig, Job
from tlkeras.export.parity import Parity, check_parity
from tlkeras.export.samples import Samples
from tlkeras.export.saved_model import LABELS_FILE, check_top_k, labels_text
from tlkeras.json_csv import read_json
from tlkeras.progress import Reporter, Silent
from tlkeras.run_facts import RunFacts
from tlkeras.storage import (
    disk_errors,
    held,
    sha256_of,
    size_of,
    staged_name,
    sync,
    sync_tree,
    write_bytes,
    write_json,
)
from tlkeras.trained import TrainedClassifier, versions

DEFAULT_TOP_K = 5
CLASSIFIER_FOLDER = "assets.extra/classifier"
MANIFEST_FILE = "manifest.json"
FORMAT, FORMAT_VERSION = "tlkeras-export", 1
_OWN_HASH = "manifest_sha256"


@dataclass(frozen=True)
class Published:
    """A published version: its folder, the check that it passed, its bytes, the seconds that all took."""

    folder: Path
    parity: Parity
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras export --json`` prints."""
        return {
            "folder": str(self.folder),
            "version": int(self.folder.name),
            "published": True,
            "parity": self.parity.to_json(),
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }


def export(
    trained: TrainedClassifier,
    folder: str | Path,
    samples: Samples,
    config: ExportConfig | None = None,
    *,
    facts: RunFacts | None = None,
    reporter: Reporter | None = None,
) -> Published:
    """Write a classifier into ``folder/<next free number>``, once every runtime has answered as Python does.

    ``facts``: what is known of its training, for the model card.

    Raises: ParityError when one does not, with nothing published; ConfigError; ExportError for a network that a
    format cannot express; StorageError when the disk refuses.
    """
    config, reporter = config or ExportConfig(), reporter or Silent()
    started = time.perf_counter()
    top_k = min(DEFAULT_TOP_K, len(trained.class_names)) if config.top_k is None else config.top_k
    check_top_k(top_k, len(trained.class_names))
    with staged_version(Path(folder).absolute()) as staged:
        job = Job(trained, staged, top_k, config.signature)
        with reporter.step("write", "formats") as progress:
            for done, name in enumerate(config.formats):
                progress(done, len(config.formats))
                FORMATS[name].write(job)
                progress(done + 1, len(config.formats))
        write_bytes(staged / LABELS_FILE, labels_text(trained).encode())
        trained.save(staged / CLASSIFIER_FOLDER)
        reporter.say(f"checking on {samples.origin}")
        parity = check_parity(trained, staged, samples, reporter)
        parity.require(f"Nothing was published; versions before are as they were.{_way_out(config, parity)}")
        facts = facts or RunFacts(Path(folder), asdict(trained.config))
        written = [FORMATS[name] for name in config.formats]
        card = model_card(facts, name=Path(folder).name, parity=parity.to_json(), formats=written)
        write_bytes(staged / CARD_FILE, card.encode(errors="backslashreplace"))
        described = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "class_names": list(trained.class_names),
            "classifier": asdict(trained.config),
            "config": {"formats": list(config.formats), "signature": config.signature, "top_k": top_k},
            "versions": versions(),
            "parity": parity.to_json(),
        }
        write_manifest(staged, described)
        size = size_of(staged)
        version = publish(staged)
    return Published(version, parity, size, time.perf_counter() - started)


def verify(folder: str | Path, samples: Samples, *, reporter: Reporter | None = None) -> Parity:
    """Repeat the check on a published version, after comparing every byte with the manifest.

    Raises: ParityError when a file has changed or an answer differs; ExportError when this is no version.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if differing := changes(folder, manifest):
        report = {"intact": False, **{name: list(value) for name, value in asdict(differing).items()}}
        raise ParityError(
            f"'{folder}' is not what was published ({differing})", report=report, next_step="Export again."
        )
    parity = check_parity(TrainedClassifier.load(folder / CLASSIFIER_FOLDER), folder, samples, reporter)
    parity.require("Its files are as published, so look at the versions of the runtimes.")
    return parity


def _way_out(config: ExportConfig, parity: Parity) -> str:
    """What could be published instead, where only some formats are to blame."""
    failed = {check.format for check in parity.checks if not check.passed}
    good = [name for name in config.formats if not failed & {name, FORMATS[name].needs}]
    checked = {check.format for check in parity.checks} & set(good)
    return f" Without {', '.join(sorted(failed))} all agree: --formats {','.join(good)}." if checked else ""


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
        staged = staged_name(folder / "version")
        staged.mkdir()
    try:
        with held(staged):
            yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
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
