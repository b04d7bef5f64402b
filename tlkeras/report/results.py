"""What other commands left inside a run directory: ideal images, attacks, robustness, heat maps, exports.

``tlkeras ideal RUN --out RUN/ideal`` and its like write a JSON file beside their pictures. Any direct subfolder with
such a file is found, whatever its name. Exports are found up to three levels down, ``RUN/models/NAME/1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkeras.json_csv import read_json

IDEAL, ATTACK, ROBUSTNESS, HEAT = "ideal.json", "attack.json", "robustness.json", "heat_maps.json"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Result:
    """One JSON file of a command and the folder that its pictures lie in."""

    folder: Path
    values: dict[str, Any]


def results(run: Path, name: str) -> list[Result]:
    """All results of one kind inside a run directory, the latest last."""
    return sorted(_found(run.glob(f"*/{name}")), key=lambda result: (result.folder / name).stat().st_mtime)


def exports(run: Path) -> list[Result]:
    """All published versions inside a run directory, the latest last."""
    patterns = (f"{'*/' * depth}{MANIFEST}" for depth in (1, 2, 3))
    found = [one for pattern in patterns for one in _found(run.glob(pattern)) if "parity" in one.values]
    return sorted(found, key=lambda result: str(result.values.get("created", "")))


def _found(paths: Iterator[Path]) -> Iterator[Result]:
    for path in paths:
        try:
            values = read_json(path)
        # A file that some other program wrote there, or one that is being written.
        except (OSError, ValueError):
            continue
        yield Result(path.parent, values)
