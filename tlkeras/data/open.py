"""Opening data by whatever names it: a folder, a list, ``demo``, a TFDS name; or photos without labels."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from tlkeras.data.dataset import LabelledImages, Left, Listing, labelled, left_line
from tlkeras.data.folder import all_rows, read_tree
from tlkeras.data.lists import LIST_ENDINGS, read_list
from tlkeras.data.remote import is_remote
from tlkeras.data.tree import SIDE_FILE, walk
from tlkeras.errors import ConfigError, DataError, unknown

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


def open_dataset(
    source: str | Path,
    *,
    data_dir: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    class_from_name: bool = False,
    classes_at: int | None = None,
    group_by: str | None = None,
    for_training: bool = True,
) -> LabelledImages:
    """Open a data set; ``group_by``: see ``LabelledImages.grouped_by``.

    ``source``: an existing folder (``tlkeras.data.folder``, with its ``class_from_name`` and ``classes_at``), an
    existing list (``tlkeras.data.lists``), ``demo`` for the drawn set made from ``seed``, else a name of TFDS
    (``tlkeras.data.tfds_source``) with its ``data_dir`` and ``progress``. What exists on disk goes before names.
    ``for_training``: whether two classes are needed, and training images of each.

    Raises: DataError or ConfigError, in one line with the nearest known name, when there is nothing of the kind.
    """
    found = _opened(source, data_dir, seed, progress, class_from_name, classes_at, for_training)
    return found.grouped_by(group_by)


def _opened(
    source: str | Path,
    data_dir: str | Path | None,
    seed: int,
    progress: Callable[[int, int], None] | None,
    class_from_name: bool,
    classes_at: int | None,
    for_training: bool,
) -> LabelledImages:
    text = str(source)
    path = Path(source).expanduser()
    if path.is_dir():
        tree = walk(str(path))
        if tree.containers and not tree.top.holds_files:
            raise _refused("the folder holds Parquet files or TFRecords", text,
                           "'tlkeras extract' reads them; train on what it writes")  # fmt: skip
        rows, notes = read_tree(tree, class_from_name=class_from_name, classes_at=classes_at)
        listing = Listing(path.resolve().name, str(path), rows, tuple(notes), tuple(tree.left_out))
        return labelled(listing, for_training=for_training)
    refuse_layout(text, class_from_name, classes_at)
    if path.suffix.lower() in (*LIST_ENDINGS, ".parquet") and not is_remote(text):
        return labelled(read_list(str(path)), for_training=for_training)
    if path.exists():
        raise _refused(
            "a data set is a folder, a .csv list or a TFDS name",
            f"the file '{path}'",
            _unpack(path) or "Give the folder that holds the class folders",
        )
    if text == "demo":
        from tlkeras.data.demo import demo_folder

        return dataclasses.replace(open_dataset(demo_folder(seed=seed)), name=text)
    if is_remote(text) or text == "-":
        raise _refused("photos are read from this disk", text, _fetch(text))
    from tlkeras.data import tfds_source  # loads what asks the network

    if isinstance(source, str) and tfds_source.parse(text) is not None:
        return tfds_source.open_tfds(text, data_dir=data_dir, progress=progress)
    if re.fullmatch(r"\w[\w-]*", text):
        # A TFDS name has no hyphens.
        raise unknown("folder, list or TFDS data set", text, tfds_source.known_names())
    raise DataError("no such folder or list", received=f"'{text}'", next_step="Check the path.")


def refuse_layout(source: str, class_from_name: bool, classes_at: int | None) -> None:
    """Refuse, for a list or a name, what only folders have.

    Raises: ConfigError.
    """
    if class_from_name or classes_at is not None:
        name = "--class-from-name" if class_from_name else "--classes-at"
        raise ConfigError(f"{name} is for folders", received=f"'{source}'", next_step="Leave it out.")


@dataclasses.dataclass(frozen=True)
class Photos:
    """Image files without labels, in order, and what was found and left out."""

    paths: list[str]
    left_out: list[Left]

    def report(self) -> list[str]:
        """A line on what was left out, or none."""
        return left_line(self.left_out)


def open_photos(sources: Iterable[str | Path]) -> Photos:
    """The image files that files, folders (searched below, sorted), lists and glob patterns name, in order.

    In a folder all files are taken that a data set would have (``tlkeras.data.tree``); a file that is named itself is
    taken whatever its name is.

    Raises: DataError for a name that is not there, a folder without images, a pattern that matches nothing.
    """
    names = [os.fspath(source) for source in sources]
    photos = Photos([], [])
    for name in names:
        if os.path.lexists(name):
            _take(photos, name, alone=len(names) == 1)
            continue
        if is_remote(name) or name == "-":
            raise _refused("photos are read from this disk", name, _fetch(name))
        matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []  # noqa: PTH207 (absolute patterns)
        if not matches:
            raise DataError("no such image file or folder", received=f"'{name}'")
        for match in matches:
            # Of ``**`` folders come with what is in them.
            if "**" not in name or not Path(match).is_dir():
                _take(photos, match, alone=False)
    return photos


def image_files(sources: Iterable[str | Path]) -> list[str]:
    """The paths of ``open_photos``."""
    return open_photos(sources).paths


def _take(photos: Photos, name: str, *, alone: bool) -> None:
    if Path(name).is_dir():
        tree = walk(name)
        rows = all_rows(tree.top)
        photos.left_out.extend(tree.left_out)
        photos.left_out.extend(Left(path, "images in rows, which predict --to reads") for path, _ in tree.containers)
        if not rows and alone:
            raise DataError("the folder has no image files", received=f"'{name}'",
                            next_step=" ".join(left_line(photos.left_out)))  # fmt: skip
        photos.paths.extend(row.path for row in rows)
        return
    ending = PurePath(name).suffix.lower()
    try:
        if ending in LIST_ENDINGS:
            photos.paths.extend(row.path for row in read_list(name, need_labels=False).rows)
        elif ending in _ARCHIVES:
            raise _refused("photos are files and folders", f"the file '{name}'", _unpack(Path(name)))
        else:
            photos.paths.append(name)
    except DataError:
        if alone:
            raise
        # A shell's * names everything that lies there.
        photos.left_out.append(Left(name, SIDE_FILE))


def _unpack(path: Path) -> str:
    how = f": python -m zipfile -e '{path}' FOLDER" if path.suffix.lower() == ".zip" else ""
    return f"Unpack it, and give the folder{how}" if path.suffix.lower() in _ARCHIVES else ""


def _fetch(name: str) -> str:
    if name == "-" or name.startswith(("http://", "https://")):
        return "Save it as a file, and give that"
    return "'tlkeras extract' and 'tlkeras predict --to' read other file systems"


def _refused(rule: str, received: str, next_step: str) -> DataError:
    return DataError(rule, received=received if received.startswith("the file") else f"'{received}'",
                     next_step=f"{next_step}.")  # fmt: skip
