"""How long steps tell what they do, without knowing who listens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

Advance = Callable[[int, int], None]  # (done, total)
LOADING = "loading the network"  # the step before the first image is answered


class Reporter(Protocol):
    """Whoever shows progress: the command line draws bars, a library user hears nothing by default."""

    def say(self, text: str) -> None:
        """One line for the user."""

    def step(self, name: str, unit: str = "images") -> contextlib.AbstractContextManager[Advance]:
        """A step of known length: call what the context gives with (done, total)."""


class Silent:
    """The reporter of the library: says nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    @contextlib.contextmanager
    def step(self, name: str, unit: str = "images") -> Iterator[Advance]:
        """Count for nobody."""
        yield lambda done, total: None
