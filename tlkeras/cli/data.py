"""``tlkeras audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlkeras.cli.command import CHOOSING, LAYOUT, CommandLine, Fields, command
from tlkeras.cli.console import DataDirOption, JsonOption, Terminal, print_json, print_tables
from tlkeras.training.config import TrainConfig


@command(CHOOSING, Fields(TrainConfig, only=LAYOUT))
def audit(
    line: CommandLine,
    data: Annotated[str, typer.Argument(help="Folder of photos, CSV list, TFDS name, or demo.")],
    out: Annotated[Path | None, typer.Option(help="Also write the verdict on every file here, as JSON.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 2 when a photo is rejected.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at every file: which are good, repaired, suspicious or rejected, and why."""
    from tlkeras.data.audit import audit as check
    from tlkeras.data.audit import require_clean
    from tlkeras.data.open import open_dataset
    from tlkeras.storage import write_json

    terminal = Terminal()
    dataset = open_dataset(data, data_dir=data_dir, **line.values(TrainConfig))
    terminal.say_all(dataset.report())
    with terminal.step("audit") as progress:
        checked = check(dataset, progress=progress)
    if out is not None:
        write_json(out, checked.to_json())
    if as_json:
        print_json(checked.to_json())
    else:
        print_tables(checked.tables())
        print(checked.summary())
    if strict:
        require_clean(checked)
