"""What the folders of a data set mean: ``class/…``, or splits with classes inside, read as their owner means them.

Layouts that would be misread without a word are refused in a line that says what is there and what is wanted.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from tlkeras.data.dataset import FILLERS, SPLIT_OF, SPLITS, Left, Row, plural, split_named, word_set, words_of
from tlkeras.data.tree import IMAGE_ENDINGS, Folder, Tree
from tlkeras.errors import ConfigError, DataError, printable

_LAYOUT = "Put the images of each class into a folder of their own: FOLDER/cat/1.jpg, FOLDER/dog/2.jpg."
# Folders of photos without labels, beside splits; what lies beside images; what cameras call photos.
_UNLABELLED = word_set("pred predict prediction predictions unlabeled unlabelled unsup unsupervised inference")
_BESIDE = word_set("annotations annotation labels masks trimaps xml xmls bbox bboxes metadata docs")
_CAMERA = word_set("img image dsc dscn dscf pict p pic photo picture screenshot frame pxl wp vid scan untitled")
_GROUPS = range(2, 101)

_Part = tuple[str, Folder]  # a split, maybe empty, and the folder that holds its class folders


def read_tree(
    tree: Tree, *, class_from_name: bool = False, classes_at: int | None = None
) -> tuple[list[Row], list[str]]:
    """The images of a tree with class and split, and notes on how they were understood.

    Classes are the folders on top, or those inside ``train``, ``validation`` and ``test`` (in any case, as
    ``training_set``, ``seg_test`` …), or with the splits inside each class. Folders that hold one folder and nothing
    else are passed through. Images may lie at any depth below their class.

    class_from_name: classes are the first words of the files' names (``cat.0.jpg``). classes_at: they are the folders
    at this depth, 1 for those on top.

    Raises: DataError for a layout that is none of these, or may be meant otherwise; ConfigError for both options.
    """
    notes: list[str] = []
    if classes_at is not None:
        if class_from_name:
            raise ConfigError("--classes-at and --class-from-name exclude each other", received="both")
        return _at_depth(tree.top, tree.left_out, classes_at), notes
    root = _unwrapped(tree.top, tree.left_out, notes)
    if class_from_name:
        return _from_names(root, tree.left_out), notes
    _refuse_strays(root, tree.left_out)
    parts = _parts(root, tree.left_out, notes)
    for split, part in parts:
        if split:
            _refuse_strays(part, tree.left_out)
    _refuse_twins(parts)
    inside = _splits_inside(root) if parts[0][0] == "" else []
    if inside:
        notes.append("each class folder holds splits; they are kept")
        return _rows(inside), notes
    if parts[0][0] == "":
        _refuse_doubled(root)
        notes += _years(root)
    _refuse_empty(parts)
    return _rows([(split, folder.name, folder) for split, part in parts for folder in part.folders]), notes


def all_rows(folder: Folder) -> list[Row]:
    """Every image of a folder at any depth, sorted, without class."""
    return [Row(path, stamp=stamp) for path, stamp in sorted(folder.below())]


def _rows(classes: Iterable[tuple[str, str, Folder]]) -> list[Row]:
    """Rows of (split, class, folder), split by split, class by class, sorted by path."""
    order = ("", *SPLITS)
    ordered = sorted(classes, key=lambda one: (order.index(one[0]), one[1]))
    return [
        Row(path, unicodedata.normalize("NFC", name), split, stamp)
        for split, name, folder in ordered
        for path, stamp in sorted(folder.below())
    ]


def _unwrapped(folder: Folder, left_out: list[Left], notes: list[str]) -> Folder:
    """The folder that holds the data set, where others are wrapped around it, or it has annotations beside it."""
    top = folder
    while not folder.files and (inner := _only(folder)) is not None and (inner.folders or len(folder.folders) > 1):
        if split_named(inner.name) and any(below.holds_files for below in inner.folders):
            break
        left_out += [Left(other.path, "folder beside the images") for other in folder.folders if other is not inner]
        folder = inner
    if folder is not top:
        notes.append(f"read from the only folder inside: '{printable(folder.path)}'")
    return folder


def _only(folder: Folder) -> Folder | None:
    """The one folder in it; ``images`` beside their ``annotations`` counts as one."""
    named = [below for below in folder.folders if below.name.lower() not in _BESIDE]
    alone = len(named) == 1 and (len(folder.folders) == 1 or set(words_of(named[0].name)) <= FILLERS)
    return named[0] if alone and not folder.loops else None


def _parts(root: Folder, left_out: list[Left], notes: list[str]) -> list[_Part]:
    """The folders that hold class folders, each with its split; the root itself, ``""``, when there are no splits."""
    named = {folder.name: split for folder in root.folders if (split := _split_among(folder, root))}
    inner = {name: _unwrapped_split(folder) for folder in root.folders if (name := folder.name) in named}
    if not any(folder.folders for folder in inner.values()):
        # A class may be called "train"; splits have class folders inside, or nothing but splits beside them.
        if named and all(folder.name in named or _has_no_labels(folder) for folder in root.folders):
            raise _flat(root, left_out)
        mixed = {word for folder in root.folders for word in words_of(folder.name) if word in SPLIT_OF}
        if len(mixed) > 1 and all(mixed & set(words_of(folder.name)) - {folder.name} for folder in root.folders):
            raise DataError(
                "a folder's name tells the class or the split, not both",
                received=f"'{root.folders[0].path}'",
                next_step="Put the splits on top: FOLDER/train/cat, FOLDER/test/cat.",
            )
        return [("", root)]
    parts: list[_Part] = []
    for folder in root.folders:
        split = named.get(folder.name, "")
        if split and inner[folder.name].folders:
            parts.append((split, inner[folder.name]))
        elif (split and split != "train") or _has_no_labels(folder) or not (split or folder.folders):
            left_out.append(Left(folder.path, "folder of unlabelled photos beside the splits"))
            notes.append(
                f"'{printable(folder.path)}' holds {plural(folder.count(), 'photo')} without classes: left alone"
            )
        elif split:
            raise DataError("a split holds a folder for each class", received=f"'{folder.path}'", next_step=_LAYOUT)
        else:
            again = any(split_named(below.name) for below in folder.folders)
            raise DataError(
                "beside train, validation and test there are no other folders",
                received=f"'{folder.path}'",
                next_step="It holds the splits once more: remove it, or give it by itself." if again
                else "Move it away, or open one split's folder by itself.",
            )  # fmt: skip
    if len({split for split, _ in parts}) < len(parts):
        raise DataError("two folders for one split", received=", ".join(f"'{part.path}'" for _, part in parts))
    if any(name.lower() not in SPLITS for name in named):
        notes.append("read as splits: " + ", ".join(f"'{part.name}' = {split}" for split, part in parts))
    return sorted(parts, key=lambda part: SPLITS.index(part[0]))


def _split_among(folder: Folder, root: Folder) -> str:
    """The split that a folder's name means, alone or without the words that all folders beside it share."""
    shared = (
        set.intersection(*(set(words_of(below.name)) for below in root.folders)) if len(root.folders) > 1 else set()
    )

    def rest(below: Folder) -> str:
        return " ".join(word for word in words_of(below.name) if word not in shared)

    if shared and all(split_named(rest(below)) or _has_no_labels(below) for below in root.folders):
        return split_named(rest(folder))
    return split_named(folder.name)


def _unwrapped_split(folder: Folder) -> Folder:
    """A split's own folder, where the archive has put it into another of its name (``seg_train/seg_train``)."""
    inner = _only(folder)
    if not folder.files and inner is not None and (split_named(inner.name) or (inner.folders and not inner.files)):
        return _unwrapped_split(inner)
    return folder


def _has_no_labels(folder: Folder) -> bool:
    return bool(set(words_of(folder.name)) & _UNLABELLED) and set(words_of(folder.name)) <= _UNLABELLED | FILLERS


def _flat(root: Folder, left_out: list[Left]) -> DataError:
    """Kaggle's flat download: ``train/cat.0.jpg``, ``test/1.jpg``."""
    held = ", ".join(f"'{folder.name}' ({plural(folder.count(), 'file')})" for folder in root.folders)
    groups = next((found for folder in root.folders if (found := _groups(folder))), {})
    return DataError(
        "train and test hold a folder for each class",
        received=f"files without class folders in {held} of '{root.path}'",
        next_step=_offer(groups, root, left_out),
    )


def _offer(groups: dict[str, int], folder: Folder, left_out: list[Left]) -> str:
    """What may be done about photos without class folders: by their names, by a list beside them, by moving them."""
    named = ", ".join(list(groups)[:4]) + (" …" if len(groups) > 4 else "")
    if groups:
        return f"The names begin with {len(groups)} words ({named}): --class-from-name takes them as classes."
    beside = re.compile(re.escape(f"{folder.path.rstrip('/')}/") + r"[^/]+\.(csv|tsv)", re.IGNORECASE)
    lists = [path for path, _ in left_out if beside.fullmatch(path)]
    return f"Give '{lists[0]}', if it lists them with their classes. {_LAYOUT}" if lists else _LAYOUT


def _first_word(path: str) -> str:
    """``great_pyrenees`` of ``great_pyrenees_12.jpg``; empty where a name does not begin so."""
    stem = unicodedata.normalize("NFC", PurePosixPath(path).stem)
    found = re.match(r"([^\W\d_]+(?:[ _-]+[^\W\d_]+)*)(?=[\W_]*\d)", stem)
    return found[1] if found and found[1].lower() not in _CAMERA else ""


def _groups(folder: Folder) -> dict[str, int]:
    """How many files have each first word; empty unless all have one, and they form groups."""
    words = Counter(_first_word(path) for path, _ in folder.below())
    fits = len(words) in _GROUPS and "" not in words and sum(words.values()) >= 2 * len(words)
    return dict(sorted(words.items())) if fits else {}


def _from_names(root: Folder, left_out: list[Left]) -> list[Row]:
    """Rows whose class is the first word of the file's name; folders that are splits keep them apart."""
    parts: list[_Part] = [(_split_among(folder, root), folder) for folder in root.folders]
    if root.files or not parts or not all(split or _has_no_labels(folder) for split, folder in parts):
        parts = [("", root)]
    rows: list[Row] = []
    for split, part in parts:
        words = Counter(_first_word(path) for path, _ in part.below())
        if len(parts) > 1 and set(words) <= {""}:
            left_out.append(Left(part.path, "folder of unlabelled photos beside the splits"))
            continue
        found = [Row(path, _first_word(path), split, stamp) for path, stamp in sorted(part.below())]
        if "" in words or len(words) not in _GROUPS:
            odd = next((row.path for row in found if not row.label), "")
            raise DataError(
                "names that tell the class begin with 2 to 100 different words, each before a number (cat.0.jpg)",
                received=f"'{printable(odd)}'" if odd else f"{len(words)} words in '{part.path}'",
                next_step=_LAYOUT,
            )
        rows += found
    order = ("", *SPLITS)
    return sorted(rows, key=lambda row: (order.index(row.split), row.label, row.path))


def _at_depth(root: Folder, left_out: list[Left], depth: int) -> list[Row]:
    """Rows whose class is the folder at ``depth``; splits are read above it."""
    if depth < 1:
        raise DataError("--classes-at is a depth from 1, for the folders on top", received=depth)
    found: list[tuple[str, str, Folder]] = []
    level = [("", root)]
    for at in range(1, depth + 1):
        for _, folder in level:
            _refuse_strays(folder, left_out)
        below = [(split, inner, folder) for split, folder in level for inner in folder.folders]
        are_splits = at < depth and bool(below) and all(split_named(inner.name) for _, inner, _ in below)
        level = [(split_named(inner.name) if are_splits else split, inner) for split, inner, _ in below]
    found = [(split, folder.name, folder) for split, folder in level]
    if not found:
        raise DataError(f"there are no folders at depth {depth}", received=f"'{root.path}'")
    return _rows(found)


def _splits_inside(root: Folder) -> list[tuple[str, str, Folder]]:
    """``cat/train``, ``cat/test``: (split, class, folder); nothing where no class folder holds splits.

    Raises: DataError when only some do.
    """
    found = [(split_named(below.name), folder, below) for folder in root.folders for below in folder.folders]
    names = Counter(folder.name for split, folder, _ in found if split)
    if not any(count > 1 for count in names.values()):
        return []
    odd = [below.path for split, _, below in found if not split]
    odd += [folder.path for folder in root.folders if folder.files or not folder.folders]
    if odd:
        raise DataError(
            "where one class folder holds train and test, all hold nothing else",
            received=f"'{odd[0]}'",
            next_step="Put the splits on top: FOLDER/train/cat, FOLDER/test/cat.",
        )
    return [(split, folder.name, below) for split, folder, below in found]


def _years(root: Folder) -> list[str]:
    """A question, where every folder holds the same folders (``2019/cat``, ``2020/cat``)."""
    inside = [frozenset(below.name for below in folder.folders) for folder in root.folders]
    if len(inside) < 2 or len(set(inside)) > 1 or len(inside[0]) < 2:
        return []
    some = ", ".join(sorted(inside[0])[:3])
    return [
        f"warning: every class folder ('{root.folders[0].name}' …) holds the same folders ({some} …); if those are the "
        "classes, add --classes-at 2"
    ]


def _refuse_strays(folder: Folder, left_out: list[Left]) -> None:
    """Images directly in a folder of classes have no label; they would be forgotten silently."""
    names = [name for name, _ in folder.files]
    strays = [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS or not folder.folders]
    if not strays:
        left_out += [Left(f"{folder.path.rstrip('/')}/{name}", "beside the class folders") for name in names]
        return
    more = f" and {len(strays) - 1:,} more" if len(strays) > 1 else ""
    received = f"'{printable(strays[0])}'{more} directly in '{folder.path}'"
    if folder.folders:
        raise DataError("an image beside the class folders has no class", received=received,
                        next_step="Move it into a class folder, or away.")  # fmt: skip
    raise DataError("images need a folder for each class", received=received,
                    next_step=_offer(_groups(folder), folder, left_out))  # fmt: skip


def _refuse_twins(parts: list[_Part]) -> None:
    """A link that leads to another class folder."""
    real = {os.path.realpath(folder.path): folder.path for _, part in parts for folder in part.folders}
    for _, part in parts:
        for name, target in part.loops:
            if target in real:
                raise DataError(
                    "two class folders are the same folder",
                    received=f"'{real[target]}' and '{part.path}/{name}'",
                    next_step="Remove one of the links.",
                )


def _refuse_doubled(root: Folder) -> None:
    """``flowers/rose``, ``flowers/tulip`` and ``flowers/flowers/rose`` …: the data set lies in itself once more."""
    names = {folder.name.lower() for folder in root.folders}
    for folder in root.folders:
        again = names & {below.name.lower() for below in folder.folders} - {folder.name.lower()}
        if len(again) > 1:
            raise DataError(
                "a class folder holds the class folders once more",
                received=f"'{folder.path}' with {', '.join(sorted(again)[:3])}",
                next_step="Remove it, or give it by itself.",
            )


def _refuse_empty(parts: list[_Part]) -> None:
    for split, part in parts:
        for folder in part.folders:
            if folder.unreadable:
                raise DataError(f"a class folder cannot be read ({folder.unreadable})",
                                received=f"'{printable(folder.path)}'",
                                next_step="Change its permissions, or remove it.")  # fmt: skip
            if split in ("", "train") and not folder.holds_files:
                raise DataError("a class folder without images", received=f"'{printable(folder.path)}'",
                                next_step="Fill it or remove it.")  # fmt: skip
        if split and not part.holds_files:
            raise DataError(f"the {split} folder has no images", received=f"'{part.path}'",
                            next_step="Fill it or remove it.")  # fmt: skip
