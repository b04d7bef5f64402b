"""``tlkeras extract``, and ``tlkeras predict --to``: any number of images, on this machine or on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tlkeras.cli.command import TRAINING, CommandLine, command
from tlkeras.cli.console import DataDirOption, JsonOption, Terminal, print_json, print_tables, quiet_tensorflow
from tlkeras.cli.options import LAYOUT, Fields
from tlkeras.training.config import TrainConfig

OnOption = Annotated[
    str | None, typer.Option("--on", help="Where to run: local, auto (a running Ray cluster) or ray://HOST:10001.")
]
ActorsOption = Annotated[
    int | None, typer.Option("--actors", help="Workers on the cluster, one core each; by default all cores.")
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", help="Environment variable to pass on to the workers (AWS_ENDPOINT_URL …); repeatable."),
]

MemoryOption = Annotated[
    float,
    typer.Option(
        "--memory-gb", help="For extracted features: with more than fits in it, the head is trained streaming."
    ),
]

# What of training decides about features.
_RECIPE = ("backbone", "weights", "size_px", "fit", "engine", "precision", "seed")


@command(TRAINING, Fields(TrainConfig, only=(*_RECIPE, *LAYOUT)))
def extract(
    line: CommandLine,
    data: Annotated[
        str,
        typer.Argument(
            help="Folder, list (CSV, Parquet), Parquet with images, TFRecords, TFDS name; local, s3://, gs:// …"
        ),
    ],
    to: Annotated[str, typer.Option(help="Folder of the shards, local or s3://, gs:// …")],
    on: OnOption = None,
    actors: ActorsOption = None,
    env: EnvOption = None,
    rows: Annotated[int, typer.Option(help="Images in a shard: what a killed worker loses at most.")] = 2048,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Push every image through a frozen backbone once, into Parquet shards; goes on where it was interrupted."""
    options = line.values(TrainConfig)
    line.refuse(("seed",), "without --weights none", unless=options["weights"] == "none")
    terminal = Terminal()
    place = place_of(on, actors, env)
    with quiet_tensorflow():
        from tlkeras.features.bulk import extract_to

        bulk = extract_to(
            data,
            to,
            **options,
            place=place,
            rows_a_shard=rows,
            data_dir=data_dir,
            reporter=terminal,
        )
    _show(bulk, as_json, terminal)
    if not as_json:
        print(f"next: tlkeras train {to}")


def predict_to_shards(run: Path, images: list[str], to: str | None, place: Any, as_json: bool) -> None:
    """``tlkeras predict`` with ``--on`` or ``--to``; ends with exit code 1 when some image could not be read."""
    from tlkeras.errors import ConfigError

    if to is None:
        raise ConfigError("--on writes shards: say where", next_step="Add --to FOLDER.")
    terminal = Terminal()
    with quiet_tensorflow():
        from tlkeras.data.open import open_photos
        from tlkeras.features.bulk import predict_to
        from tlkeras.trained import TrainedClassifier, find

        find(run)
        # One name may be anything that holds images; several are files, folders and patterns of this disk.
        photos = None if len(images) == 1 else open_photos(images)
        terminal.say_all(photos.report() if photos else [])
        data = photos.paths if photos else images[0]
        bulk = predict_to(TrainedClassifier.load(run), data, to, place=place, reporter=terminal)
    _show(bulk, as_json, terminal)
    if bulk.rejected:
        raise typer.Exit(1)


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


def place_of(on: str | None, actors: int | None, env: list[str] | None) -> Any:
    """The place that the options name.

    Raises: ConfigError, ClusterError: at once, before anything heavy is loaded.
    """
    from tlkeras.cluster import LOCAL, Place, check_address

    place = Place(on or LOCAL, actors, tuple(env or ()))
    check_address(place.on)
    return place


def _show(bulk: Any, as_json: bool, terminal: Terminal) -> None:
    from rich.table import Table

    if bulk.rejected:
        terminal.say(f"{bulk.rejected:,} of {bulk.images:,} images rejected; their rows say why")
    if as_json:
        print_json(bulk.to_json())
        return
    table = Table("worker", "images", "images/s", "peak memory", box=None, pad_edge=False)
    for name, worker in bulk.workers.items():
        rate = worker["images"] / max(worker["seconds"], 1e-9)
        table.add_row(name, f"{worker['images']:,.0f}", f"{rate:,.1f}", f"{worker['peak_mb']:,.0f} MB")
    if bulk.workers:
        print_tables([table])
    shards = bulk.computed + bulk.reused
    print(f"{bulk.kind}: {bulk.to}   ({bulk.images:,} images, {shards:,} shards, {bulk.seconds:.1f} s)")
