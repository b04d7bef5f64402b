"""``tlkeras backbones`` and ``tlkeras cache``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tlkeras.cli.command import KEEPING, command
from tlkeras.cli.console import JsonOption, print_json, print_tables
from tlkeras.errors import printable


@command(KEEPING)
def backbones(as_json: JsonOption = False) -> None:
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
            "weights_at_hand": locate(row.weights).is_file(),
        }
        for row in BACKBONES.values()
    ]
    if as_json:
        print_json({"backbones": rows})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, justify in (("name", "left"), ("px", "right"), ("features", "right"), ("parameters", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("pixel range", "weights' licence", "at hand"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            row["name"],
            str(row["size_px"]),
            f"{row['features']:,}",
            f"{row['parameters'] / 1e6:.1f} M",
            row["value_range"],
            row["licence"],
            "yes" if row["weights_at_hand"] else "",
        )
    print_tables([table])


@command(KEEPING)
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete what tlkeras keeps there, and nothing else.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is kept to be quick the next time (features, verdicts, converted networks), or delete it."""
    from tlkeras.features.store import stored_spaces
    from tlkeras.storage import cache_root, clear_cache, size_of

    root = cache_root()
    if clear:
        freed, left = clear_cache()
        if as_json:
            print_json({"folder": str(root), "freed_bytes": freed, "left": left})
            return
        print(f"freed {freed / 1e6:,.1f} MB in {root}")
        if left:
            print(f"left, because tlkeras did not make it: {printable(', '.join(left))}")
        return
    spaces: list[dict[str, Any]] = [{**space, "images": count, "bytes": size} for space, count, size in stored_spaces()]
    total = size_of(root) if root.exists() else 0
    if as_json:
        print_json({"folder": str(root), "bytes": total, "features": spaces})
        return
    from rich.table import Table

    table = Table("backbone", "px", "fit", "view", "precision", "images", "MB", box=None, pad_edge=False)
    for space in spaces:
        fields = [str(space[name]) for name in ("backbone", "size_px", "fit", "view", "precision", "images")]
        table.add_row(*fields, f"{space['bytes'] / 1e6:,.1f}")
    if spaces:
        print_tables([table])
    print(f"{total / 1e6:,.1f} MB in {root}; 'tlkeras cache --clear' deletes it")
