"""``tlkeras predict`` and ``tlkeras extract``: photos through a network, on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tlkeras.cli.command import LAYOUT, TRAINING, USING, CommandLine, DataDirOption, Fields, command
from tlkeras.cli.console import Terminal, table
from tlkeras.cluster import Place, check_address
from tlkeras.progress import LOADING
from tlkeras.training.config import TrainConfig

EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", help="Environment variable to pass on to the workers (AWS_ENDPOINT_URL …); repeatable."),
]

# What of training decides about features.
_RECIPE = ("backbone", "weights", "size_px", "fit", "engine", "precision", "seed")


@command(USING, Fields(Place))
def predict(
    line: CommandLine,
    run: Annotated[Path, typer.Argument(help="Run directory or saved classifier.")],
    images: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or patterns such as '*.jpg'.")],
    to: Annotated[
        str | None, typer.Option(help="Write Parquet shards here instead of printing; with or without --on.")
    ] = None,
    env: EnvOption = None,
    top: Annotated[int, typer.Option(help="How many classes to list for each photo.", min=1)] = 3,
) -> None:
    """Say what is in photos. Photos that cannot be read are named, the rest is answered; exit code 1 then."""
    line.refuse(("actors", "env"), "without --on", unless="on" in line.given)
    line.refuse(("top",), "with --to", unless=to is None)
    if "on" in line.given or to is not None:
        _predict_to_shards(line, run, images, to, _place(line, env))
        return
    from tlkeras.data.dataset import found_json
    from tlkeras.data.open import open_photos
    from tlkeras.trained import TrainedClassifier, find

    find(run)  # a wrong directory is told at once
    photos = open_photos(images)
    line.terminal.say_all(photos.report())
    with line.terminal.step(LOADING):
        classifier = TrainedClassifier.load(run)
        predictor = classifier.predictor(images=len(photos.paths))
        predictor.features.open()
    answers, problems = _answers(predictor, classifier.class_names, photos.paths, top, line.terminal)
    for problem in problems:
        line.terminal.say(f"skipped: {problem['path']}: {problem['detail']}")
    found = found_json(len(photos.paths), photos.left_out)
    line.answer({"predictions": answers, "skipped": problems, **found}, [_table(answers)])
    if problems:
        raise typer.Exit(1)


@command(TRAINING, Fields(TrainConfig, only=(*_RECIPE, *LAYOUT)), Fields(Place))
def extract(
    line: CommandLine,
    data: Annotated[
        str,
        typer.Argument(
            help="Folder, list (CSV, Parquet), Parquet with images, TFRecords, TFDS name; local, s3://, gs:// …"
        ),
    ],
    to: Annotated[str, typer.Option(help="Folder of the shards, local or s3://, gs:// …")],
    env: EnvOption = None,
    rows: Annotated[int, typer.Option(help="Images in a shard: what a killed worker loses at most.")] = 2048,
    data_dir: DataDirOption = None,
) -> None:
    """Push every image through a frozen backbone once, into Parquet shards; goes on where it was interrupted."""
    options = line.values(TrainConfig)
    line.refuse(("seed",), "without --weights none", unless=options["weights"] == "none")
    place = _place(line, env)
    from tlkeras.features.bulk import extract_to

    bulk = extract_to(data, to, **options, place=place, rows_a_shard=rows, data_dir=data_dir, reporter=line.terminal)
    _show(line, bulk, f"next: tlkeras train {to}")


def _predict_to_shards(line: CommandLine, run: Path, images: list[str], to: str | None, place: Place) -> None:
    """``--on`` or ``--to``; ends with exit code 1 when some image could not be read."""
    from tlkeras.data.open import open_photos
    from tlkeras.errors import ConfigError
    from tlkeras.features.bulk import predict_to
    from tlkeras.trained import TrainedClassifier, find

    if to is None:
        raise ConfigError("--on writes shards: say where", next_step="Add --to FOLDER.")
    find(run)
    # One name may be anything that holds images; several are files, folders and patterns of this disk.
    photos = None if len(images) == 1 else open_photos(images)
    line.terminal.say_all(photos.report() if photos else [])
    data = photos.paths if photos else images[0]
    bulk = predict_to(TrainedClassifier.load(run), data, to, place=place, reporter=line.terminal)
    if photos:
        bulk = replace(bulk, left_out=tuple(photos.left_out))
    _show(line, bulk)
    if bulk.rejected:
        raise typer.Exit(1)


def _place(line: CommandLine, env: list[str] | None) -> Place:
    """The place that the options name.

    Raises: ConfigError, ClusterError: at once, before anything heavy is loaded.
    """
    place = Place(**line.values(Place), env=tuple(env or ()))
    check_address(place.on)
    return place


def _show(line: CommandLine, bulk: Any, *words: str) -> None:
    if bulk.rejected:
        line.terminal.say(f"{bulk.rejected:,} of {bulk.images:,} images rejected; their rows say why")
    rows = [
        (
            name,
            f"{worker['images']:,.0f}",
            f"{worker['images'] / max(worker['seconds'], 1e-9):,.1f}",
            f"{worker['peak_mb']:,.0f} MB",
        )
        for name, worker in bulk.workers.items()
    ]
    tables = [table("worker | >images | >images/s | >peak memory", rows)] if rows else []
    written = f"{bulk.images:,} images, {bulk.computed + bulk.reused:,} shards, {bulk.seconds:.1f} s"
    line.answer(bulk.to_json(), tables, f"{bulk.kind}: {bulk.to}   ({written})", *words)


def _answers(
    predictor: Any, names: Sequence[str], paths: Sequence[str], top: int, terminal: Terminal
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    from tlkeras.errors import ImageError, printable
    from tlkeras.heads.logits import ranked

    answers: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    with terminal.step("predict") as progress:
        for path, row in predictor.answers(paths):
            if isinstance(row, ImageError):
                problems.append({"path": printable(path), "reason": row.reason, "detail": str(row)})
            else:
                best = [{"label": names[k], "probability": round(float(row[k]), 6)} for k in ranked(row, top)]
                answers.append({"path": printable(path), **best[0], "top": best})
            progress(len(answers) + len(problems), len(paths))
    return answers, problems


def _table(answers: list[dict[str, Any]]) -> Any:
    def others(answer: dict[str, Any]) -> str:
        return "  ".join(f"{other['label']} {other['probability']:.3f}" for other in answer["top"][1:])

    rows = ((a["path"], a["label"], f"{a['probability']:.3f}", others(a)) for a in answers)
    return table("photo | class | probability | then", rows)
