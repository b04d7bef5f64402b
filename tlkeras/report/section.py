"""One section of a report, and words that several sections use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from tlkeras.data.dataset import printable


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
