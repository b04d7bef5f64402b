"""Ctrl-C and SIGTERM while a step runs: the step is finished first."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interruption:
    """Within the block, the first Ctrl-C or SIGTERM only sets ``asked``; a second one acts as it did before.

    Nothing changes when it is not ``heeded``, nor outside of the main thread, where Python allows no handlers.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, *, heeded: bool = True) -> None:
        self._heeded = heeded
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if self._heeded and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, *_: Any) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
