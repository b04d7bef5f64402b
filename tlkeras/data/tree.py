"""The one lister: what lies below a folder, here or on any file system of fsspec, and what of it is nobody's photo.

Only names are looked at. What is left out is kept with its reason, so that a command can account for every file.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tlkeras.data.dataset import Left
from tlkeras.data.remote import access_errors, file_system, is_remote
from tlkeras.errors import DataError

# fmt: off
# Endings of photos by the format that they promise; the last ones promise nothing that is looked at.
IMAGE_ENDINGS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "jpeg"), **dict.fromkeys((".tif", ".tiff"), "tiff"),
    **{f".{name}": name for name in ("png", "gif", "bmp", "webp", "avif")},
    **dict.fromkeys(
        (
            ".apng", ".dib", ".heic", ".heif", ".svg", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jxl", ".ico",
            ".tga", ".psd", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw",
        ), "",
    ),
}
# Files that often lie beside photos and are nobody's photo; anything else is left to the audit's judgement.
_SIDE_ENDINGS = frozenset(
    (
        ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".mat", ".npy", ".npz", ".ini", ".db", ".md", ".xmp",
        ".rst", ".html", ".htm", ".css", ".js", ".py", ".ipynb", ".sh", ".yaml", ".yml", ".toml", ".cfg", ".aae",
        ".log", ".bib", ".tex", ".url", ".lnk", ".bak", ".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z",
        ".rar", ".h5", ".hdf5", ".parquet", ".pkl", ".sqlite", ".tfrecord", ".sha256", ".md5", ".ds_store",
    )
)
_SIDE_NAMES = frozenset({"readme", "license", "licence", "copying", "notice", "makefile", "thumbs.db", "_success"})
# Folders that file systems, network drives, cameras and tools make; in lower case.
_SYSTEM_FOLDERS = frozenset(
    (
        "__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "@__thumb", "$recycle.bin",
        "system volume information", "lost+found", "lost.dir", "found.000", "network trash folder", "temporary items",
        "_temporary", "_delta_log", "node_modules", "recycler",
    )
)
# Files by which a folder is told that tlkeras has written: runs, classifiers, exports, shards, pictures.
_OWN_FILES = (
    {"run.json", "metrics.json"}, {"classifier.json", "head.safetensors"}, {"classifier.json", "weights.safetensors"},
    {"manifest.json", "MODEL_CARD.md"},
    {"task.json"}, {"features.json"}, {"predictions.json"}, {"attack.json"}, {"ideal.json"}, {"robustness.json"},
    {"explain.json"}, {"feature_maps.json"},
)
# fmt: on
# The folders that commands make by default; they hold folders NAME-NUMBER and nothing else.
_OWN_PARENTS = frozenset({"runs", "explain", "features", "attacks", "ideal", "robustness"})
TFRECORD_MARK = ".tfrecord"
SIDE_FILE, HIDDEN, SYSTEM, OWN = "no photo by its name", "hidden", "system folder", "written by tlkeras"
_NUMBERED = re.compile(r"-\d+$")
_READERS = 16


@dataclass
class Folder:
    """A folder: its files, (name, stamp) sorted by name, and the folders in it, what is nobody's photo left out.

    path: full name. stamp: changes with the file's content; empty where it was not asked for. loops: links to folders
    that are read anyway, with where they lead. is_ours: tlkeras has written it. unreadable: why it cannot be listed.
    """

    path: str
    name: str
    files: list[tuple[str, str]] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    loops: list[tuple[str, str]] = field(default_factory=list)
    is_ours: bool = False
    unreadable: str = ""

    @property
    def holds_files(self) -> bool:
        """Whether there is any file, at any depth."""
        return bool(self.files) or any(folder.holds_files for folder in self.folders)

    def count(self) -> int:
        """Files at any depth."""
        return len(self.files) + sum(folder.count() for folder in self.folders)

    def below(self) -> Iterator[tuple[str, str]]:
        """Full name and stamp of all files at any depth, in no order."""
        yield from ((f"{self.path.rstrip('/')}/{name}", stamp) for name, stamp in self.files)
        for folder in self.folders:
            yield from folder.below()


@dataclass
class Tree:
    """What was found: the top folder, files of rows (Parquet, TFRecords; name and stamp), and what was left out."""

    top: Folder
    containers: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[Left] = field(default_factory=list)

    def sort(self, folder: Folder, name: str, stamp: str) -> None:
        """Put a file where it belongs."""
        path = f"{folder.path.rstrip('/')}/{name}"
        lower = name.lower()
        stem, ending = PurePosixPath(lower).stem, PurePosixPath(lower).suffix
        if name.startswith("."):
            self.left_out.append(Left(path, HIDDEN))
        elif (ending == ".parquet" or TFRECORD_MARK in lower) and not name.startswith("_"):
            self.containers.append((path, stamp))
        elif (
            ending in _SIDE_ENDINGS
            or TFRECORD_MARK in lower
            or name.endswith("~")
            or (stem in _SIDE_NAMES and ending not in IMAGE_ENDINGS)
        ):
            self.left_out.append(Left(path, SIDE_FILE))
        else:
            folder.files.append((name, stamp))


@dataclass(frozen=True)
class _Entry:
    name: str
    is_folder: bool = False
    stamp: str = ""
    real: str = ""  # where a folder on this disk really lies
    is_link: bool = False


def walk(top: str, *, stamps: bool = False) -> Tree:
    """List a folder.

    Links are followed, except those to a folder that is read anyway. Hidden files and folders, those of operating
    systems and what tlkeras has written are left out, and files that often lie beside photos (README.md, labels.csv).
    Folders of other file systems are asked for side by side, and nothing but names and stamps is held.

    Raises: DataError when there is no such folder, or it cannot be read; StorageError when a file system refuses.
    """
    remote = is_remote(top)
    root = Folder(top, PurePosixPath(top.rstrip("/")).name)
    tree = Tree(root)
    real = "" if remote else os.path.realpath(top)
    # A link to the folder itself, or to one above it, is a ring.
    seen = set() if remote else {real, *map(str, (*Path(real).parents, *Path(top).absolute().parents))}
    level = [root]
    with ThreadPoolExecutor(_READERS) if remote else contextlib.nullcontext() as pool:
        while level:
            found = pool.map(_remote_entries, level) if pool else (_local_entries(one, stamps) for one in level)
            level = [
                below
                for folder, entries in zip(level, found, strict=True)
                for below in _take(tree, folder, entries, seen, real)
            ]
    _drop_ours(tree, root)
    if remote and not (root.files or root.folders or tree.containers or tree.left_out):
        raise DataError("there is no such file or folder, or it is empty", received=f"'{top}'",
                        next_step="Check the address.")  # fmt: skip
    return tree


def tree_at(name: str) -> Tree:
    """What a folder, a single file or a pattern names, here or elsewhere, with stamps.

    Raises: DataError when there is nothing; StorageError.
    """
    system, path = file_system(name)
    full = system.unstrip_protocol if is_remote(name) else str
    with access_errors(name):
        if glob.has_magic(path) and not system.exists(path):
            found = {one: info for one, info in system.glob(path, detail=True).items() if info["type"] == "file"}
            top = re.split(r"[*?[]", path, maxsplit=1)[0].rsplit("/", 1)[0]
        elif system.isfile(path):
            found, top = {path: system.info(path)}, path.rsplit("/", 1)[0]
        else:
            return walk(name, stamps=True)
    if not found:
        raise DataError("there is no such file or folder, or it is empty", received=f"'{name}'",
                        next_step="Check the address.")  # fmt: skip
    return tree_of(((full(one), stamp_of(info)) for one, info in found.items()), full(top))


def tree_of(files: Iterable[tuple[str, str]], top: str) -> Tree:
    """Files that a pattern has named, (full name, stamp), as the folders that they lie in, below ``top``."""
    tree = Tree(Folder(top, PurePosixPath(top).name))
    known = {"": tree.top}
    for path, stamp in sorted(files):
        *above, name = path[len(top) :].strip("/").split("/")
        for depth in range(len(above)):
            key = "/".join(above[: depth + 1])
            if key not in known:
                known[key] = Folder(f"{top.rstrip('/')}/{key}", above[depth])
                known["/".join(above[:depth])].folders.append(known[key])
        tree.sort(known["/".join(above)], name, stamp)
    return tree


def _take(tree: Tree, folder: Folder, entries: list[_Entry] | str, seen: set[str], top: str) -> list[Folder]:
    """Sort one folder's entries; returns the folders that are to be listed next."""
    if isinstance(entries, str):
        if folder is tree.top:
            raise DataError(f"the folder cannot be read ({entries})", received=f"'{folder.path}'")
        folder.unreadable = entries
        tree.left_out.append(Left(folder.path, f"cannot be read ({entries})"))
        return []
    names = {entry.name for entry in entries}
    folder.is_ours = any(files <= names for files in _OWN_FILES) or (
        folder.name in _OWN_PARENTS and bool(names) and all(e.is_folder and _NUMBERED.search(e.name) for e in entries)
    )
    if folder.is_ours and folder is not tree.top:
        return []
    for entry in entries:
        path = f"{folder.path.rstrip('/')}/{entry.name}"
        if not entry.is_folder:
            tree.sort(folder, entry.name, entry.stamp)
        elif entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FOLDERS:
            tree.left_out.append(Left(path, HIDDEN if entry.name.startswith(".") else SYSTEM))
        elif entry.real and (entry.real in seen or (entry.is_link and _is_reached(entry.real, top))):
            folder.loops.append((entry.name, entry.real))
            tree.left_out.append(Left(path, "a link to a folder that is read anyway"))
        else:
            seen.add(entry.real)
            folder.folders.append(Folder(path, entry.name))
    return folder.folders


def _is_reached(real: str, top: str) -> bool:
    """Whether a place is below ``top`` and no hidden or system folder above it keeps it from being listed."""
    if not real.startswith(top.rstrip("/") + "/"):
        return False
    return not any(part.startswith(".") or part.lower() in _SYSTEM_FOLDERS for part in real[len(top) :].split("/"))


def _drop_ours(tree: Tree, folder: Folder) -> None:
    """Take out the folders that tlkeras has written, and those that hold nothing else (``runs``)."""
    for below in folder.folders:
        had = len(below.folders)
        _drop_ours(tree, below)
        below.is_ours = below.is_ours or (had > 0 and not below.folders and not below.files and not below.loops)
    tree.left_out += [Left(below.path, OWN) for below in folder.folders if below.is_ours]
    folder.folders = [below for below in folder.folders if not below.is_ours]


def _local_entries(folder: Folder, stamps: bool) -> list[_Entry] | str:
    """What lies in a folder of this disk, sorted by name; or why that cannot be told."""
    found = []
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                if _is_folder(entry):
                    found.append(_Entry(entry.name, True, "", os.path.realpath(entry.path), entry.is_symlink()))
                else:
                    found.append(_Entry(entry.name, stamp=_stamp_of(entry) if stamps else ""))
    except OSError as error:
        return error.strerror or str(error)
    return sorted(found, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A ring of links is neither file nor folder; the audit says that it cannot be read.
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False


def _stamp_of(entry: os.DirEntry[str]) -> str:
    with contextlib.suppress(OSError):
        status = entry.stat()
        return f"{status.st_size} {status.st_mtime}"
    return ""


def _remote_entries(folder: Folder) -> list[_Entry]:
    system, path = file_system(folder.path)
    with access_errors(folder.path):
        try:
            entries = system.ls(path, detail=True)
        except FileNotFoundError:
            return []
        finally:
            # The client's own list of a large folder takes ten times the memory of ours.
            system.invalidate_cache(path)
    found = []
    for info in entries:
        name = PurePosixPath(info["name"].rstrip("/")).name
        # Object stores keep an empty object in the place of a folder.
        if info["name"].rstrip("/") != path.rstrip("/") and name:
            found.append(_Entry(name, info["type"] == "directory", stamp_of(info)))
    return sorted(found, key=lambda entry: entry.name)


def stamp_of(info: dict[str, Any]) -> str:
    """Size and modification time or tag of a file, as far as its file system tells them."""
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")
    return f"{info.get('size', '')} {next((info[key] for key in keys if key in info), '')}"
