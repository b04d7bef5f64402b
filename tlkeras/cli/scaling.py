"""``tlkeras train`` on extracted features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tlkeras.cli.console import Terminal, print_json, print_tables

MemoryOption = Annotated[
    float,
    typer.Option(
        "--memory-gb", help="For extracted features: with more than fits in it, the head is trained streaming."
    ),
]


def holds_features(data: str) -> bool:
    """Whether ``data`` is a folder that ``tlkeras extract`` wrote or began."""
    from tlkeras.features.shards import is_result

    return ("://" in data or Path(data).is_dir()) and is_result(data)


def train_on_features(
    config: Any, features: str, out: Path | None, test: str | None, memory_gb: float, terminal: Terminal, as_json: bool
) -> None:
    """``tlkeras train`` on a folder of extracted features."""
    from tlkeras.errors import ConfigError
    from tlkeras.evaluation.tables import tables
    from tlkeras.training.on_shards import train_on_shards

    if test is not None:
        raise ConfigError("extracted features bring their own test split", received=f"--test {test}")
    if config.fine_tune is not None:
        raise ConfigError(
            "fine-tuning needs the photos", received=f"extracted features ('{features}')", next_step="Give the photos."
        )
    run = train_on_shards(config, features, out=out, memory_gb=memory_gb, reporter=terminal)
    if as_json:
        print_json(run.to_json())
        return
    print_tables(tables(run.evaluation))
    print(f"run: {run.folder}   ({run.seconds:.1f} s)")
