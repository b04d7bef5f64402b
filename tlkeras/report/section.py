"""One section of a report, words that several sections use, and photos made small enough to travel inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.data.dataset import printable
from tlkeras.errors import ImageError
from tlkeras.images.decode import decode, read_bytes


@dataclass(frozen=True)
class Section:
    """What one section shows.

    name: its anchor and its template, ``templates/sections/<name>.html.j2``. title: its heading. short: the same
    in the table of contents. data: what its template needs, plain values, charts and thumbnails.
    """

    name: str
    title: str
    short: str
    data: dict[str, Any] = field(default_factory=dict)


def words(name: str) -> str:
    """A class name or code as words: underscores become blanks."""
    return printable(name.replace("_", " "))


def file_name(path: str) -> str:
    """The last part of a path, as any page can hold it."""
    return printable(PurePath(path).name)


_QUALITY = 72
_WORKERS = 4


@dataclass
class Thumbnail:
    """A small picture. ``src`` is a ``data:`` address, empty while it is not loaded or where it cannot be shown.

    width, height: pixels, 0 until loaded. doubtful: nobody expects that it can be shown.
    """

    path: str
    side_px: int
    doubtful: bool = False
    src: str = ""
    width: int = 0
    height: int = 0


class Thumbnails:
    """The small pictures of one report: asked for one by one, then read and shrunk together by ``load``."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[str, int], Thumbnail] = {}

    def of(self, path: str, side_px: int, *, doubtful: bool = False) -> Thumbnail:
        """The picture at ``path`` with no side longer than ``side_px``; it is filled by ``load``."""
        return self._wanted.setdefault((path, side_px), Thumbnail(path, side_px, doubtful))

    def load(self) -> int:
        """Read all that was asked for; returns how many that are not doubtful cannot be shown (files are gone)."""
        wanted = list(self._wanted.values())
        with ThreadPoolExecutor(_WORKERS) as pool:
            shown = pool.map(_load, wanted)
            return sum(not found and not one.doubtful for one, found in zip(wanted, shown, strict=True))

    def outside(self, roots: Sequence[Path]) -> int:
        """How many of the pictures that are shown come from files below none of ``roots``."""
        known = [root.resolve() for root in roots]
        paths = {Path(one.path).resolve() for one in self._wanted.values() if one.src}
        return sum(not any(path.is_relative_to(root) for root in known) for path in paths)


def of_pixels(pixels: np.ndarray, side_px: int, *, lossless: bool = False) -> Thumbnail:
    """A small picture of uint8 ``[H, W, 3]``; ``lossless`` where JPEG would change what is to be seen."""
    return _fill(Thumbnail("", side_px), Image.fromarray(pixels), lossless)


def _load(thumbnail: Thumbnail) -> bool:
    try:
        # Twice the size, so that what the JPEG decoder's own shrinking costs in sharpness is not seen.
        found = decode(read_bytes(thumbnail.path), at_least_px=2 * thumbnail.side_px)
    except ImageError:
        return False
    _fill(thumbnail, Image.fromarray(found.pixels), False)
    return True


def _fill(thumbnail: Thumbnail, image: Image.Image, lossless: bool) -> Thumbnail:
    scale = min(1.0, thumbnail.side_px / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    kind = "png" if lossless else "jpeg"
    thumbnail.src = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    thumbnail.width, thumbnail.height = image.size
    return thumbnail
