"""The photographs that ``tlkeras_tiny`` may learn from, and those that it must never see.

Held out are all test photos of cats vs dogs and 30 % of each class of flowers and steel, chosen by the hash of
their content. The audit then drops every training photo that is a copy or a near copy of one of those.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkeras.data.audit import audit
from tlkeras.data.dataset import LabelledImages
from tlkeras.storage import sha256_of

HELD_OUT_SHARE = 0.3
# Folders below photos/ with one folder for each class, of which a share is held out.
SHARED = ("flowers", "steel_defects")
TRAINED_ON = ("cats_vs_dogs/train", "oxford_iiit_pet/images", "imagenet/one_per_class", "imagenet/by_class")
HELD_OUT = ("cats_vs_dogs/test",)


@dataclass(frozen=True)
class Photos:
    """Paths to train on, paths that are held out, and how many were dropped because they resemble those."""

    training: tuple[Path, ...]
    held_out: tuple[Path, ...]
    dropped: int


def assets() -> Path:
    """The folder of real photos and weights; ends the program with a word when there is none."""
    folder = Path(os.environ.get("TLKERAS_ASSETS", "")).resolve()
    if "TLKERAS_ASSETS" not in os.environ or not (folder / "photos").is_dir():
        sys.exit("needs real photos and weights: set TLKERAS_ASSETS to their folder")
    os.environ["KERAS_HOME"] = str(folder / "keras")
    return folder


def held_out_of_class(folder: Path) -> set[Path]:
    """The photos of one class that are kept for the test: those with the largest hashes of their content."""
    paths = sorted(folder.glob("*.jpg"), key=sha256_of)
    return set(paths[len(paths) - round(HELD_OUT_SHARE * len(paths)) :])


def photos(root: Path) -> Photos:
    """Divide the photos below ``root``; no training photo is a copy or near copy of a held-out one.

    Raises: RuntimeError when one is all the same, which nothing above should let happen.
    """
    training = {path for name in TRAINED_ON for path in (root / name).rglob("*.jpg")}
    held_out = {path for name in HELD_OUT for path in (root / name).rglob("*.jpg")}
    for name in SHARED:
        for class_folder in sorted((root / name).iterdir()):
            chosen = held_out_of_class(class_folder)
            held_out |= chosen
            training |= set(class_folder.glob("*.jpg")) - chosen
    paths = [*sorted(training), *sorted(held_out)]
    checked = audit(
        LabelledImages(
            name="photos",
            source=root.name,
            class_names=("photo",),
            paths=tuple(map(str, paths)),
            labels=np.zeros(len(paths), np.int32),
            splits=np.array(["train"] * len(training) + ["test"] * len(held_out)),
        )
    )
    kept = tuple(Path(path) for path in checked.kept.in_split("train").paths)
    guard(kept, sorted(held_out))
    return Photos(kept, tuple(sorted(held_out)), len(training) - len(kept))


def guard(training: tuple[Path, ...], held_out: list[Path]) -> None:
    """Insist that no held-out photo is trained on, by the content of the files.

    Raises: RuntimeError that names the first one.
    """
    forbidden = {sha256_of(path) for path in held_out}
    for path in training:
        if sha256_of(path) in forbidden:
            raise RuntimeError(f"'{path}' is held out for the test and must not be trained on")
