"""``tlkeras audit``, ``compare`` and ``few-shot`` before training; ``backbones`` and ``cache``: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlkeras.cli.command import CHOOSING, GROUPED, KEEPING, CommandLine, DataDirOption, Fields, command, listed
from tlkeras.cli.console import table, write_results
from tlkeras.cli.training import train_options
from tlkeras.errors import printable
from tlkeras.training.config import TrainConfig

if TYPE_CHECKING:
    from tlkeras.choosing.compare import Comparison
    from tlkeras.choosing.few_shot import FewShot

_DATA = typer.Argument(help="Folder of photos, CSV list, TFDS name (cats_vs_dogs …), or demo.")
# Shares and seed as for train: then the test is the same.
_COMPARED = ("size_px", "fit", "validation_fraction", "test_fraction", "seed", "engine")


@command(CHOOSING, Fields(TrainConfig, only=(*_COMPARED, *GROUPED)))
def compare(
    line: CommandLine,
    data: Annotated[str, _DATA],
    backbones: Annotated[
        str | None, typer.Option(help="Networks with commas between; NAME=FILE for own weights of that network.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Instead of --backbones: small, medium or large networks; default small.")
    ] = None,
    images: Annotated[int, typer.Option(help="How many photos are drawn at most, by class.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="New folder for compare.json and compare.png.")] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Compare networks on your photos: accuracy, time, size; whether their features transfer; which to take."""
    from tlkeras.choosing.compare import CompareConfig
    from tlkeras.choosing.compare import budget as of_budget
    from tlkeras.choosing.compare import compare as run_comparison
    from tlkeras.choosing.plots import figure_of_comparison
    from tlkeras.data.open import open_dataset
    from tlkeras.images.arrays import figure_bytes

    line.refuse(("budget",), "with --backbones", unless=backbones is None)
    options = line.values(TrainConfig)
    layout = {name: options.pop(name) for name in GROUPED}
    names = of_budget(budget or "small") if backbones is None else listed("--backbones", backbones)
    config = CompareConfig(backbones=names, images=images, **options)
    _refuse_existing(out)
    dataset = open_dataset(data, data_dir=data_dir, seed=options["seed"], **layout)
    line.terminal.say_all(dataset.report())
    found = run_comparison(config, dataset, line.terminal)
    described = found.to_json()
    words = [found.recommendation.sentence, f"Does it transfer? {found.transfer.words}"]
    if out is not None:
        write_results(out, "compare.json", described, {"compare.png": figure_bytes(figure_of_comparison(found))})
        words.append(f"figures and plot: {out}")
    line.answer(described, _comparison_tables(found), *words)


@command(CHOOSING, Fields(TrainConfig, skip=("precision", "memory_gb", "strict")))
def few_shot(
    line: CommandLine,
    data: Annotated[str, _DATA],
    shots: Annotated[str, typer.Option(help="Photos of each class, with commas between.")] = "1,5,10,25",
    draws: Annotated[int, typer.Option(help="How often the photos are drawn, for the mean and the spread.")] = 5,
    out: Annotated[Path | None, typer.Option(help="New folder for few-shot.json and few-shot.png.")] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Measure how accurate a linear head is with 1, 5, 10, 25 photos of each class, from one pass over the photos."""
    from tlkeras.choosing.few_shot import few_shot as run_few_shot
    from tlkeras.choosing.plots import figure_of_few_shot
    from tlkeras.data.open import open_dataset
    from tlkeras.images.arrays import figure_bytes

    wanted = listed("--shots", shots, int)
    config = TrainConfig(**train_options(line, data))
    _refuse_existing(out)
    dataset = open_dataset(data, data_dir=data_dir, seed=config.seed, **config.layout)
    line.terminal.say_all(dataset.report())
    found = run_few_shot(config, dataset, line.terminal, shots=wanted, draws=draws)
    described = found.to_json()
    words = []
    if out is not None:
        write_results(out, "few-shot.json", described, {"few-shot.png": figure_bytes(figure_of_few_shot(found))})
        words.append(f"figures and plot: {out}")
    line.answer(described, [_few_shot_table(found)], *words)


def _refuse_existing(out: Path | None) -> None:
    """Before minutes of work, not after them."""
    from tlkeras.storage import new_folder

    if out is not None:
        new_folder(out, out.parent, "")


def _comparison_tables(found: Comparison) -> list[Any]:
    of = "" if found.images == found.of_images else f" of {found.of_images:,}"
    title = f"{found.data}: {found.images:,}{of} photos, cross-validated; {found.threads} threads"
    columns = (
        "network | >px | >accuracy (95 %) | >log loss | >LogME | >random weights | >neighbours | >random | >shift"
        " | >parameters | >MB | >ms, batch 1 | >batch 32 | "
    )
    tables = [table(columns, (_comparison_row(found, m) for m in found.measured), title=title)]
    if found.skipped:
        tables.append(table("skipped | why", found.skipped))
    return tables


def _comparison_row(found: Comparison, m: Any) -> tuple[Any, ...]:
    low, high = m.probe.interval
    marks = ["best value" if m.name == found.recommendation.name else ""]
    if m.name == found.recommendation.best:
        marks.append("most accurate")
    return (
        m.name,
        m.size_px,
        f"{100 * m.probe.accuracy:.1f} % ({100 * low:.1f}–{100 * high:.1f})",
        f"{m.probe.log_loss:.3f}",
        f"{m.logme:.3f}",
        f"{100 * m.random.accuracy:.1f} %",
        f"{100 * m.probe.agreement:.0f} %",
        f"{100 * m.random.agreement:.0f} %",
        "–" if m.shift is None else f"{m.shift:.3f}",
        f"{m.parameters / 1e6:.2f} M",
        f"{m.megabytes:.1f}",
        f"{m.ms[1]:.2f}",
        f"{m.ms[32]:.2f}",
        ", ".join(filter(None, marks)),
    )


def _few_shot_table(found: FewShot) -> Any:
    low, high = found.interval
    rows = []
    for point in found.points:
        note = f"{point.short_classes} classes have fewer" if point.short_classes else ""
        rows.append(
            (
                "all" if point.per_class is None else point.per_class,
                f"{point.images:,}",
                f"{100 * point.mean:.1f} %",
                f"± {100 * point.spread:.1f}" if len(point.accuracies) > 1 else "",
                f"{100 * min(point.accuracies):.1f} %",
                f"{100 * max(point.accuracies):.1f} %",
                f"{100 * point.mean_per_class_accuracy:.1f} %",
                f"95 %: {100 * low:.1f} to {100 * high:.1f} %" if point.per_class is None else note,
            )
        )
    columns = "photos of each class | >photos | >mean | >spread | >lowest | >highest | >mean per class | "
    title = f"{found.data}, {found.backbone}: accuracy on {found.test_images:,} test photos"
    return table(columns, rows, title=title)


@command(CHOOSING, Fields(TrainConfig, only=GROUPED))
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
