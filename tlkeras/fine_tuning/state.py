"""The state of fine-tuning on disk, whole or not there; and which of its weights make a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import StorageError
from tlkeras.json_csv import parse_json
from tlkeras.storage import write_bytes

STATE_FILE = "state.safetensors"
RAW, AVERAGED = "raw", "averaged"
# Under what the weights after the last epoch are kept.
LAST = {RAW: "last raw", AVERAGED: "last averaged"}


@dataclass
class TuningState:
    """Where fine-tuning stands, in plain values; the arrays of network, optimiser and averages stand beside it.

    Learning rates, unfrozen blocks, the order of photos and every random draw follow from ``step`` and the seed.

    fingerprint: of the photos, their labels and splits, and of the options. step: how many are done, through all
    epochs. loss_sum: of the steps of the epoch that is running. seconds: of work so far.
    history: a row for each finished epoch. best_log_loss: on validation; stale_epochs: how many since then.
    kept: files of epochs' weights, by what they are kept for: the best and the last ones.
    stopped: ``""`` while it runs or when it came to its end, ``early`` (patience), ``not finite`` (loss).
    """

    fingerprint: str
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_log_loss: float | None = None
    stale_epochs: int = 0
    kept: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {kind: [] for kind in (RAW, AVERAGED, *LAST.values())}
    )
    stopped: str = ""

    def save(self, folder: Path, arrays: Sequence[np.ndarray]) -> None:
        """Replace the saved state by this one, atomically; then delete weights that no state refers to any more.

        Raises: StorageError when the disk refuses; the state that was saved before is left as it was.
        """
        _write(folder / STATE_FILE, arrays, {"state": json.dumps(asdict(self))})
        wanted = {row["file"] for rows in self.kept.values() for row in rows}
        for path in folder.glob("epoch-*.safetensors"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path) -> tuple[TuningState, list[np.ndarray]] | None:
        """The saved state and its arrays, or None where there is none yet.

        Raises: StorageError when the file cannot be read.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return None
        arrays, described = _read(path)
        try:
            return cls(**parse_json(described["state"], what="the state")), arrays
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from None


def save_weights(folder: Path, name: str, weights: Sequence[np.ndarray]) -> str:
    """Write an epoch's weights into a new file, atomically; returns its name."""
    _write(folder / f"epoch-{name}.safetensors", weights, {})
    return f"epoch-{name}.safetensors"


def load_weights(folder: Path, file_name: str) -> list[np.ndarray]:
    """The weights that ``save_weights`` wrote.

    Raises: StorageError when the file is missing or cannot be read.
    """
    return _read(folder / file_name)[0]


def _write(path: Path, arrays: Sequence[np.ndarray], described: dict[str, str]) -> None:
    from safetensors.numpy import save

    # Not ascontiguousarray, which would give scalars an axis.
    named = {f"{index:05d}": np.asarray(array, order="C") for index, array in enumerate(arrays)}
    write_bytes(path, save(named, metadata=described))


def _read(path: Path) -> tuple[list[np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return [file.get_tensor(name) for name in sorted(file.keys())], file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"'{path}' is not a state that was saved ({' '.join(str(error).split())[:120]})",
        next_step="Delete the folder that it lies in and train again.",
    )


@dataclass(frozen=True)
class WeightsChoice:
    """The weights after an epoch, or a point on the line from the start to them.

    kind: ``raw`` weights, or ``averaged``, their moving average. epoch: counted from 1. share: how far from the
    start, 0..1 (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). new_head: the head is not the one on
    that line, but fitted to the features that the network there gives.
    The same pick of another course, over more photos, is the same recipe.
    """

    kind: str
    epoch: int
    share: float = 1.0
    new_head: bool = False

    def blend(self, start: Sequence[np.ndarray], end: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The weights that are meant. ``end``: those after ``epoch``; ``start``: those before the first."""
        if self.share == 1.0:
            return list(end)
        return [_between(before, after, self.share) for before, after in zip(start, end, strict=True)]


def _between(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    # What has not moved is not moved by rounding.
    if np.array_equal(before, after):
        return before
    return np.asarray(before + share * (after.astype(np.float64) - before), after.dtype)
