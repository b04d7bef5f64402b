"""TFDS records on disk, and the ordinary image files that they are unpacked into."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.data.dataset import SPLIT_OF, LabelledImages
from tlkeras.errors import DataError, StorageError
from tlkeras.images.decode import sniff
from tlkeras.json_csv import read_json
from tlkeras.storage import cache_root, disk_errors, staged_folder, write_json

_INFO = "dataset.json"
_FORMAT = 1
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def find_records(root: Path, name: str, config: str | None, version: str | None) -> Path | None:
    """The folder of prepared records below TFDS's ``data_dir``: the newest version that fits, or None.

    ``version`` may hold ``*``. Without a config the set's default one is taken, as TFDS noted it.
    """
    folder = root / name
    if config is None:
        try:
            config = read_json(folder / ".config" / "metadata.json", {"default_config_name": str})[
                "default_config_name"
            ]
        except (OSError, ValueError, KeyError):
            config = ""
    folder = folder / config if config else folder
    if not folder.is_dir():
        return None
    found = [
        path
        for path in folder.iterdir()
        if _VERSION.fullmatch(path.name) and (path / "dataset_info.json").is_file() and _fits(path.name, version)
    ]
    return max(found, key=lambda path: _number(path.name), default=None)


def find_unpacked(name: str, config: str | None, version: str | None, records: Path | None) -> Path | None:
    """The folder of image files unpacked before, newest version first, or None.

    ``records``, when they are on this disk: what was unpacked from others of that version does not count.
    """
    home = cache_root() / "tfds"
    found = []
    for info_file in home.glob(f"*/{_INFO}"):
        info = _read_info(info_file)
        if not info or info["name"] != name or not _fits(info["version"], version):
            continue
        if config != info["config"] and not (config is None and info["is_default"]):
            continue
        if records is not None and records_hash(records) != info["records"]:
            continue
        if _is_whole(info_file.parent, info):
            found.append((_number(info["version"]), info_file.parent))
    return max(found)[1] if found else None


def list_unpacked(folder: Path) -> LabelledImages:
    """The images of an unpacked set, split by split, in the order of their records within a class."""
    info = _read_info(folder / _INFO)
    if info is None:
        raise StorageError(f"'{folder}' is damaged", next_step="Remove it and start again.")
    paths: list[str] = []
    labels: list[int] = []
    splits: list[str] = []
    for split, label, class_folder in _class_folders(folder, info):
        files = sorted(str(path) for path in class_folder.iterdir()) if class_folder.is_dir() else []
        paths += files
        labels += [label] * len(files)
        splits += ["" if list(info["splits"]) == ["train"] else split] * len(files)
    title = info["name"] + (f"/{info['config']}" if info["config"] else "")
    return LabelledImages(
        title,
        f"TFDS {title}:{info['version']}",
        tuple(info["class_names"]),
        tuple(paths),
        np.array(labels, np.int32),
        np.array(splits, str),
    )


def features_of(builder: Any) -> tuple[str, str, list[str]]:
    """The keys of the image and of the label, and the class names.

    Raises: DataError when the set has no image or no class label of its own.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    keys = {}
    for wanted, kind in kinds.items():
        known = list(features.keys()) if isinstance(features, tfds.features.FeaturesDict) else []
        fitting = [key for key in known if isinstance(features[key], kind)]
        if wanted not in fitting and len(fitting) != 1:
            raise DataError(
                f"'{builder.name}' is not a classification set: it needs one image and one class label",
                received=f"features {', '.join(known) or type(features).__name__}",
            )
        keys[wanted] = wanted if wanted in fitting else fitting[0]
    return keys["image"], keys["label"], list(features[keys["label"]].names)


def unpack(builder: Any, config: str | None, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write each image of a prepared builder to a file, its bytes as they are; returns the folder.

    ``config``: as it was asked for. The folder appears whole or not at all.
    """
    image_key, label_key, class_names = features_of(builder)
    parts = {name: SPLIT_OF[name.lower()] for name in builder.info.splits if name.lower() in SPLIT_OF}
    if not parts:
        raise DataError(
            "a set has a split train, validation or test",
            received=f"{', '.join(builder.info.splits) or 'none'} in '{builder.name}'",
        )
    title = "-".join(filter(None, [builder.name, getattr(builder.builder_config, "name", ""), str(builder.version)]))
    target = cache_root() / "tfds" / title
    info: dict[str, Any] = {
        "format": _FORMAT,
        "name": builder.name,
        "config": getattr(builder.builder_config, "name", None),
        "is_default": config is None,
        "version": str(builder.version),
        "records": records_hash(Path(builder.data_dir)),
        "class_names": class_names,
        "class_folders": [f"{i:04d}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}" for i, name in enumerate(class_names)],
        "splits": {},
    }
    old = _read_info(target / _INFO)
    if old is not None and old["records"] == info["records"] and _is_whole(target, old):
        # Unpacked under its full name before, asked for as the default now.
        write_json(target / _INFO, {**old, "is_default": True})
        return target
    total = sum(builder.info.splits[name].num_examples for name in parts)
    try:
        with staged_folder(target) as staged:
            done = 0
            for name, split in parts.items():
                done = _unpack_split(
                    builder, name, staged / split, (image_key, label_key), info, (done, total), progress
                )
                counted = {entry.name: len(list(entry.iterdir())) for entry in sorted((staged / split).glob("*"))}
                if counted:
                    info["splits"][split] = counted
            write_json(staged / _INFO, info)
            if not _is_whole(target, _read_info(target / _INFO)) or old is not None:
                shutil.rmtree(target, ignore_errors=True)
    except StorageError:
        # Another process was quicker; what it has unpacked is the same.
        if not _is_whole(target, _read_info(target / _INFO)):
            raise
    return target


def _unpack_split(
    builder: Any,
    name: str,
    folder: Path,
    keys: tuple[str, str],
    info: dict[str, Any],
    count: tuple[int, int],
    progress: Callable[[int, int], None] | None,
) -> int:
    import tensorflow_datasets as tfds

    image_key, label_key = keys
    done, total = count
    # Other features (masks, boxes) are not even parsed, and the images stay encoded.
    wanted = tfds.decode.PartialDecoding(
        {image_key: True, label_key: True}, decoders={image_key: tfds.decode.SkipDecoding()}
    )
    examples = builder.as_dataset(split=name, decoders=wanted, shuffle_files=False)
    for index, example in enumerate(examples.as_numpy_iterator()):
        label, data = int(example[label_key]), example[image_key]
        done += 1
        if progress is not None:
            progress(done, total)
        # Test sets of contests mark images without a public label by -1.
        if label < 0:
            continue
        path = folder / info["class_folders"][label] / f"{index:07d}.{(sniff(data) or 'img').replace('jpeg', 'jpg')}"
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return done


def records_hash(records: Path) -> str:
    """SHA-256 of the file in which TFDS describes its prepared records, shard lengths included."""
    return hashlib.sha256((records / "dataset_info.json").read_bytes()).hexdigest()


def _read_info(path: Path) -> dict[str, Any] | None:
    try:
        info = read_json(path)
    except (OSError, ValueError):
        return None
    return info if info.get("format") == _FORMAT else None


def _class_folders(folder: Path, info: dict[str, Any]) -> list[tuple[str, int, Path]]:
    return [
        (split, label, folder / split / name)
        for split in info["splits"]
        for label, name in enumerate(info["class_folders"])
    ]


def _is_whole(folder: Path, info: dict[str, Any] | None) -> bool:
    """Whether every class folder still has as many files as were written."""
    if info is None:
        return False
    return all(
        (len(list(path.iterdir())) if path.is_dir() else 0) == info["splits"][split].get(path.name, 0)
        for split, _, path in _class_folders(folder, info)
    )


def _fits(version: str, asked: str | None) -> bool:
    if not asked:
        return True
    return all(want in ("*", have) for want, have in zip(asked.split("."), version.split("."), strict=False))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
