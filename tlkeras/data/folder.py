"""A data set in folders: ``class/…``, or ``train/class/…`` beside ``validation`` and ``test``."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePath

import numpy as np

from tlkeras.data.dataset import SPLIT_NAMES, LabelledImages, check_classes, printable
from tlkeras.errors import DataError

# fmt: off
IMAGE_ENDINGS = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff",
        ".avif", ".heic", ".heif", ".svg", ".dng",
    )
)
# Files that often lie beside images and are nobody's image; anything else is left to the audit's judgement.
SIDE_ENDINGS = frozenset(
    (
        ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".mat", ".npy", ".npz", ".ini", ".db", ".md",
        ".rst", ".html", ".htm", ".css", ".js", ".py", ".ipynb", ".sh", ".yaml", ".yml", ".toml", ".cfg",
        ".log", ".bib", ".tex", ".url", ".lnk", ".bak", ".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z",
        ".rar", ".h5", ".hdf5", ".parquet", ".pkl", ".sqlite", ".tfrecord", ".sha256", ".md5", ".ds_store",
    )
)
# fmt: on
_SIDE_NAMES = frozenset({"readme", "license", "licence", "copying", "notice", "makefile", "thumbs.db", "__macosx"})
_LAYOUT = "Put the images of each class into a folder of their own: FOLDER/cat/1.jpg, FOLDER/dog/2.jpg."


def open_folder(folder: str | Path) -> LabelledImages:
    """List a folder of class folders, or of ``train``, ``validation`` (``val``, ``valid``, ``dev``) and ``test``.

    Images may lie at any depth below their class. Names of splits are read in any case. Hidden files and folders are
    skipped, links are followed, except those that lead back to a folder that is read anyway. Every file is listed
    that is not a well-known side file (README.md, labels.csv …), so that the audit can say what it is. The classes of
    all splits together are the classes; validation and test may lack some of them (``describe`` says so).

    Raises: DataError when there is no such folder, no class, one class, a class without images, an image outside the
    class folders, or a class without training images.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError("no such folder", received=f"'{root}'", next_step=_LAYOUT)
    top = _subfolders(root)
    _refuse_strays(root, bool(top))
    parts = _splits_of(root, top)
    class_folders = [
        (split, name, path) for split, part in parts for name, path in _class_folders(part, bool(split)).items()
    ]
    class_names = check_classes((unicodedata.normalize("NFC", name) for _, name, _ in class_folders), f"'{root}'")
    visited = _claim([path for *_, path in class_folders])
    paths: list[str] = []
    labels: list[int] = []
    splits: list[str] = []
    for split, name, path in class_folders:
        found = sorted(_image_files(path, visited))
        if not found and split in ("", "train"):
            raise DataError("a class folder without images", received=f"'{path}'", next_step="Fill it or remove it.")
        paths += found
        labels += [class_names.index(unicodedata.normalize("NFC", name))] * len(found)
        splits += [split] * len(found)
    dataset = LabelledImages(
        root.resolve().name, str(root), class_names, tuple(paths), np.array(labels, np.int32), np.array(splits, str)
    )
    _check_splits(dataset, [split for split, _ in parts])
    return dataset


def _splits_of(root: Path, top: dict[str, Path]) -> list[tuple[str, Path]]:
    """The folders that hold class folders, each with its split; the root itself, ``""``, when there are no splits."""
    named = {name: SPLIT_NAMES[name.lower()] for name in top if name.lower() in SPLIT_NAMES}
    # A class may be called "train"; a split is told by having folders inside, and nothing but splits beside it.
    if not named or not all(_subfolders(top[name]) for name in named):
        lone = len(named) == len(top) and named
        if lone and any(_subfolders(top[name]) for name in named):
            bare = next(name for name in named if not _subfolders(top[name]))
            raise DataError("a split holds a folder for each class", received=f"'{top[bare]}'", next_step=_LAYOUT)
        return [("", root)]
    others = sorted(set(top) - set(named))
    if others:
        raise DataError(
            "beside train, validation and test there are no other folders",
            received=f"'{top[others[0]]}'",
            next_step="Move it away, or open one split's folder by itself.",
        )
    if len(set(named.values())) < len(named):
        raise DataError("two folders for one split", received=", ".join(f"'{top[name]}'" for name in sorted(named)))
    order = ("train", "validation", "test")
    return sorted(((split, top[name]) for name, split in named.items()), key=lambda part: order.index(part[0]))


def _class_folders(part: Path, is_split: bool) -> dict[str, Path]:
    folders = _subfolders(part)
    if is_split:
        _refuse_strays(part, bool(folders))
    return folders


def _refuse_strays(folder: Path, has_classes: bool) -> None:
    """Images directly in a folder of classes have no label; they would be forgotten silently."""
    strays = [
        entry.name
        for entry in _entries(folder)
        if PurePath(entry.name).suffix.lower() in IMAGE_ENDINGS and not _is_dir(entry)
    ]
    if strays:
        more = f" and {len(strays) - 1:,} more" if len(strays) > 1 else ""
        rule = (
            "an image beside the class folders has no class" if has_classes else "images need a folder for each class"
        )
        step = "Move it into a class folder, or away." if has_classes else _LAYOUT
        received = f"'{printable(strays[0])}'{more} directly in '{folder}'"
        raise DataError(rule, received=received, next_step=step)


def _check_splits(dataset: LabelledImages, found: list[str]) -> None:
    for split in found:
        labels = set(dataset.labels[dataset.splits == split].tolist())
        if split and not labels:
            raise DataError(f"the {split} folder has no images", received=f"'{dataset.source}'",
                            next_step="Fill it or remove it.")  # fmt: skip
        lacking = sorted(set(range(len(dataset.class_names))) - labels)
        if split == "train" and lacking:
            raise DataError(
                "every class needs training images",
                received=f"none of '{dataset.class_names[lacking[0]]}' in the train folder of '{dataset.source}'",
            )


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"the folder cannot be read ({error.strerror})", received=f"'{folder}'") from None
    return sorted(shown, key=lambda entry: entry.name)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    # A ring of links is neither file nor folder; the audit says that it cannot be read.
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False


def _subfolders(folder: Path) -> dict[str, Path]:
    return {e.name: Path(e.path) for e in _entries(folder) if _is_dir(e) and e.name.lower() not in _SIDE_NAMES}


def _claim(folders: list[Path]) -> set[str]:
    """Real paths that are read by themselves, with all folders above them: a link to one of those is a loop."""
    claimed: dict[str, Path] = {}
    for folder in folders:
        real = os.path.realpath(folder)
        if real in claimed:
            raise DataError(
                "two class folders are the same folder",
                received=f"'{claimed[real]}' and '{folder}'",
                next_step="Remove one of the links.",
            )
        claimed[real] = folder
    above = {str(parent) for folder in folders for parent in Path(os.path.realpath(folder)).parents}
    above |= {str(parent) for folder in folders for parent in folder.absolute().parents}
    return set(claimed) | above


def _image_files(folder: Path, visited: set[str]) -> Iterator[str]:
    """Files below a class folder; every real folder is read once, which ends rings of links."""
    waiting = [str(folder)]
    while waiting:
        for entry in _entries(waiting.pop()):
            if _is_dir(entry):
                real = os.path.realpath(entry.path)
                if real not in visited and entry.name.lower() not in _SIDE_NAMES:
                    visited.add(real)
                    waiting.append(entry.path)
            elif not _is_side_file(entry.name):
                yield entry.path


def _is_side_file(name: str) -> bool:
    stem, ending = PurePath(name.lower()).stem, PurePath(name.lower()).suffix
    return ending in SIDE_ENDINGS or (stem in _SIDE_NAMES and ending not in IMAGE_ENDINGS) or name.endswith("~")
