"""Images without labels, as people name them: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from tlkeras.errors import DataError

# Inside a folder only these are taken; a file that is named itself is taken whatever its name is.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"),
    *(".tif", ".tiff", ".avif", ".heic", ".heif"),
)


def image_files(sources: Iterable[str | Path]) -> list[str]:
    """The image files that files, folders (searched below, sorted) and glob patterns name, in order.

    Raises: DataError for a name that is not there, a folder without images, a pattern that matches nothing.
    """
    found: list[str] = []
    for source in sources:
        name = os.fspath(source)
        if Path(name).is_dir():
            below = sorted(
                str(path)
                for path in Path(name).rglob("*")
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
            )
            if not below:
                raise DataError("the folder has no image files", received=f"'{name}'")
            found += below
        elif Path(name).exists():
            found.append(name)
        else:
            matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []  # noqa: PTH207 (absolute patterns)
            if not matches:
                raise DataError("no such image file or folder", received=f"'{name}'")
            found += [match for match in matches if Path(match).is_file()]
    return found
