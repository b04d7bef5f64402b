"""``tlkeras audit``, ``tlkeras backbones`` and ``tlkeras cache``: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tlkeras.cli.command import CHOOSING, KEEPING, LAYOUT, CommandLine, DataDirOption, Fields, command
from tlkeras.cli.console import table
from tlkeras.errors import printable
from tlkeras.training.config import TrainConfig


@command(CHOOSING, Fields(TrainConfig, only=LAYOUT))
def audit(
    line: CommandLine,
    data: Annotated[str, typer.Argument(help="Folder of photos, CSV list, TFDS name, or demo.")],
    out: Annotated[Path | None, typer.Option(help="Also write the verdict on every file here, as JSON.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 2 when a photo is rejected.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Read files again that have not changed since.")] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Look at every file: which are good, repaired, suspicious or rejected, and why."""
    from tlkeras.data.audit import audit as check
    from tlkeras.data.audit import require_clean
    from tlkeras.data.open import open_dataset
    from tlkeras.storage import write_json

    dataset = open_dataset(data, data_dir=data_dir, **line.values(TrainConfig))
    line.terminal.say_all(dataset.report())
    with line.terminal.step("audit") as progress:
        checked = check(dataset, full=full, progress=progress)
    if out is not None:
        write_json(out, checked.to_json())
    line.answer(checked.to_json(), checked.tables(), checked.summary())
    if strict:
        require_clean(checked)


@command(KEEPING)
def backbones(line: CommandLine) -> None:
    """List the pretrained networks: input size, features, parameters, preprocessing, licence, what is at hand."""
    from tlkeras.backbones import BACKBONES, locate

    rows: list[dict[str, Any]] = [
        {
            "name": row.name,
            "family": row.family,
            "size_px": row.size_px,
            "features": row.feature_size,
            "parameters": row.parameters,
            "value_range": row.value_range,
            "licence": row.licence,
            "weights_file": row.weights.file_name,
            "weights_url": row.weights.url,
            "weights_package": row.weights.package,
            "weights_at_hand": locate(row.weights).is_file(),
        }
        for row in BACKBONES.values()
    ]
    cells = (
        (
            row["name"],
            row["size_px"],
            f"{row['features']:,}",
            f"{row['parameters'] / 1e6:.1f} M",
            row["value_range"],
            row["licence"],
            "yes" if row["weights_at_hand"] else "",
        )
        for row in rows
    )
    shown = table("name | >px | >features | >parameters | pixel range | weights' licence | at hand", cells)
    line.answer({"backbones": rows}, [shown])


@command(KEEPING)
def cache(
    line: CommandLine,
    clear: Annotated[bool, typer.Option("--clear", help="Delete what tlkeras keeps there, and nothing else.")] = False,
) -> None:
    """Show what is kept to be quick the next time (features, verdicts, converted networks), or delete it."""
    from tlkeras.features.store import stored_spaces
    from tlkeras.storage import cache_root, clear_cache, size_of

    root = cache_root()
    if clear:
        freed, left = clear_cache()
        words = [f"freed {freed / 1e6:,.1f} MB in {root}"]
        if left:
            words.append(f"left, because tlkeras did not make it: {printable(', '.join(left))}")
        line.answer({"folder": str(root), "freed_bytes": freed, "left": left}, [], *words)
        return
    spaces: list[dict[str, Any]] = [{**space, "images": count, "bytes": size} for space, count, size in stored_spaces()]
    total = size_of(root) if root.exists() else 0
    names = ("backbone", "size_px", "fit", "view", "precision", "images")
    cells = ((*(space[name] for name in names), f"{space['bytes'] / 1e6:,.1f}") for space in spaces)
    tables = [table("backbone | px | fit | view | precision | images | MB", cells)] if spaces else []
    kept = f"{total / 1e6:,.1f} MB in {root}; 'tlkeras cache --clear' deletes it"
    line.answer({"folder": str(root), "bytes": total, "features": spaces}, tables, kept)
