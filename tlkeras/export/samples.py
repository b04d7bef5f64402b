"""The image files that an export is checked on: of the run, of the user's choice, drawn where there are too few."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from tlkeras.data.open import image_files
from tlkeras.errors import DataError, FormatError, ImageError
from tlkeras.images.decode import SERVED_FORMATS, decode, read_bytes
from tlkeras.images.header import EXIF_TAG
from tlkeras.json_csv import read_csv
from tlkeras.progress import Reporter, Silent

_T = TypeVar("_T")

AT_LEAST = 32
SPLITS_FILE = "splits.csv"
_DRAWN_PER_CLASS = 10
# Where a run has too few validation photos, those of its other splits are the next best.
_SPLITS = ("validation", "test", "train")


@dataclass(frozen=True)
class Sample:
    """One image file: on disk at ``path``, or in memory as ``data``."""

    name: str
    path: str = ""
    data: bytes = field(default=b"", repr=False)

    def read(self) -> bytes:
        """The file's bytes. Raises: ImageError when it cannot be read."""
        return self.data or read_bytes(self.path)


@dataclass(frozen=True)
class Samples:
    """Files that a served graph decodes. ``origin`` says in words where they come from.

    left_out: names of files that were passed over because a served graph refuses them, or nobody reads them.
    """

    images: tuple[Sample, ...]
    origin: str
    left_out: tuple[str, ...] = ()


def samples_for(
    images: Sequence[str | Path] | None,
    *,
    run: Path | None = None,
    seen: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Samples:
    """At least ``AT_LEAST`` files to check an export on.

    ``images``: files, folders and patterns, all of which are taken, or ``["demo"]``. By default photos of ``run``
    (a run directory), the validation split first, or ``seen`` (paths), as far as they are on this machine. Drawn
    pictures make up the number. Raises: DataError for names that are not there.
    """
    reporter = reporter or Silent()
    chosen: list[Sample] = []
    left_out: list[str] = []
    origin = ""
    if images is not None and list(images) != ["demo"]:
        _take(image_files(images), None, chosen, left_out)
        origin = f"{len(chosen):,} images of {', '.join(str(image) for image in images)}"
    elif images is None and (seen or run is not None):
        if run is not None:
            origin = _take_from_run(run, chosen, left_out)
        else:
            _take(_evenly([path for path in seen if Path(path).is_file()]), AT_LEAST, chosen, left_out)
            origin = f"{len(chosen)} photos of the training"
        if not chosen:
            reporter.say("the photos that it learned from are not on this machine: checking on drawn pictures")
    missing = AT_LEAST - len(chosen)
    if missing > 0:
        chosen += drawn_samples()[:missing]
        drawn = f"{missing} drawn pictures"
        origin = f"{origin} and {drawn}" if missing < AT_LEAST else drawn
    return Samples(tuple(chosen), origin, tuple(left_out))


def drawn_samples() -> list[Sample]:
    """``AT_LEAST`` pictures of the demo, cut to many sizes and written in every format that a graph decodes.

    Photos on disk vary by themselves; these must be made to.
    """
    from tlkeras.data.demo import CUT_OFF, EMPTY, demo_folder

    folder = demo_folder(per_class=_DRAWN_PER_CLASS)
    paths = sorted(path for path in folder.rglob("*.*") if str(path.relative_to(folder)) not in (CUT_OFF, EMPTY))
    samples = []
    for number, path in enumerate(_evenly(paths)[:AT_LEAST]):
        image = Image.open(path).convert("RGB")
        width, height = image.width - 9 * (number % 5), image.height - 14 * (number % 3)
        kind = SERVED_FORMATS[number % len(SERVED_FORMATS)]
        exif = Image.Exif()
        exif[EXIF_TAG] = number % 8 + 1
        buffer = io.BytesIO()
        options = {"exif": exif} if kind in ("jpeg", "png", "webp") else {}
        image.crop((0, 0, width, height)).save(buffer, kind.upper(), **options)
        samples.append(Sample(f"{path.stem}-{width}x{height}.{kind}", data=buffer.getvalue()))
    return samples


def _take_from_run(run: Path, chosen: list[Sample], left_out: list[str]) -> str:
    """Take photos of a run's splits until there are enough; returns where they came from."""
    # Of a run, or of the run whose classifier folder this is.
    table = (run.parent if run.name == "classifier" else run) / SPLITS_FILE
    if not table.is_file():
        return ""
    try:
        rows = [(row["path"], row["split"]) for row in read_csv(table)]
    except (OSError, FormatError, KeyError) as error:
        raise DataError(f"'{table}' cannot be read ({error})", next_step="Name photos with --images.") from None
    origins = []
    for split in _SPLITS:
        before = len(chosen)
        paths = [path for path, name in rows if name == split and Path(path).is_file()]
        _take(_evenly(paths), AT_LEAST, chosen, left_out)
        if len(chosen) > before:
            origins.append(f"{len(chosen) - before} of the run's {split} split")
    return ", ".join(origins)


def _take(paths: Iterable[str], limit: int | None, chosen: list[Sample], left_out: list[str]) -> None:
    for path in paths:
        if limit is not None and len(chosen) >= limit:
            return
        try:
            refused = decode(read_bytes(path)).unserved
        except ImageError as error:
            refused = str(error)
        if refused:
            left_out.append(Path(path).name)
        else:
            chosen.append(Sample(Path(path).name, path=path))


def _evenly(items: Sequence[_T]) -> list[_T]:
    """All items, those first that lie evenly over the list: lists are sorted by class, and all classes should come."""
    spread = np.linspace(0, len(items) - 1, min(AT_LEAST, len(items))).round().astype(int).tolist()
    rest = sorted(set(range(len(items))) - set(spread))
    return [items[index] for index in dict.fromkeys([*spread, *rest])]
