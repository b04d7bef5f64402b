"""Opening a data set by whatever names it: a folder, a list, ``demo``, or a name of TensorFlow Datasets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tlkeras.data import tfds_source
from tlkeras.data.csv_list import LIST_ENDINGS, open_list
from tlkeras.data.dataset import LabelledImages
from tlkeras.data.folder import open_folder
from tlkeras.errors import DataError


def open_dataset(
    source: str | Path,
    *,
    data_dir: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LabelledImages:
    """Open a data set.

    ``source``: an existing folder (``tlkeras.data.folder``), an existing .csv, .tsv or .txt list
    (``tlkeras.data.csv_list``), ``demo`` for the drawn set made from ``seed``, else a name of TFDS
    (``tlkeras.data.tfds_source``) with its ``data_dir`` and ``progress``. What exists on disk goes before names.

    Raises: DataError or ConfigError, in one line with the nearest known name, when there is nothing of the kind.
    """
    text = str(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return open_folder(path)
    if path.suffix.lower() in LIST_ENDINGS:
        return open_list(path)
    if path.exists():
        raise DataError(
            "a data set is a folder, a .csv list or a TFDS name",
            received=f"the file '{path}'",
            next_step="Give the folder that holds the class folders.",
        )
    if text == "demo":
        from tlkeras.data.demo import demo_folder

        return dataclasses.replace(open_folder(demo_folder(seed=seed)), name=text)
    if not isinstance(source, str) or tfds_source.parse(text) is None:
        raise DataError("no such folder or list", received=f"'{text}'", next_step="Check the path.")
    return tfds_source.open_tfds(text, data_dir=data_dir, progress=progress)
