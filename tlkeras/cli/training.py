"""``tlkeras train`` and ``tlkeras evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlkeras.cli.console import (
    DataDirOption,
    EngineOption,
    JsonOption,
    Terminal,
    print_json,
    print_tables,
    quiet_tensorflow,
)


def train(
    data: Annotated[str, typer.Argument(help="Folder of photos, CSV list, TFDS name (cats_vs_dogs …), or demo.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Pretrained network; 'tlkeras backbones' lists all. Default mobilenet_v2, and tlkeras_tiny for demo."
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="pretrained, imagenet, none (random), or a weights file.")
    ] = "pretrained",
    size: Annotated[int | None, typer.Option(help="Input size in pixels; the backbone's own by default.")] = None,
    fit: Annotated[str, typer.Option(help="How photos become square: stretch, crop or pad.")] = "stretch",
    mirror: Annotated[
        bool, typer.Option(help="Average the features of each photo with those of its mirror image.")
    ] = False,
    head: Annotated[str, typer.Option(help="linear or mlp.")] = "linear",
    units: Annotated[str, typer.Option(help="Hidden units of the mlp head, as 256 or 256,128.")] = "256",
    dropout: Annotated[float, typer.Option(help="Dropout of the mlp head.")] = 0.3,
    batch_norm: Annotated[bool, typer.Option(help="Batch normalisation in the mlp head.")] = True,
    test: Annotated[str | None, typer.Option(help="Other data to measure on, instead of a split of DATA.")] = None,
    validation_fraction: Annotated[float, typer.Option(help="Share split off for choosing the head.")] = 0.15,
    test_fraction: Annotated[float, typer.Option(help="Share split off for measuring.")] = 0.15,
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/DATA-BACKBONE-NUMBER.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop when a photo is rejected.")] = False,
    engine: EngineOption = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 (faster where OpenVINO and the CPU have it).")] = "fp32",
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write RUN/report.html.")] = True,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier on a pretrained network's features, measure it and save it."""
    terminal = Terminal()
    with quiet_tensorflow():
        from tlkeras.evaluation.tables import tables
        from tlkeras.heads.config import HeadConfig
        from tlkeras.report.build import write_report
        from tlkeras.run_facts import read_run
        from tlkeras.training.config import DEFAULT_BACKBONE, DEMO_BACKBONE, TrainConfig
        from tlkeras.training.run import train as run_training

        config = TrainConfig(
            backbone=backbone or (DEMO_BACKBONE if data == "demo" else DEFAULT_BACKBONE),
            weights=weights,
            size_px=size,
            fit=fit,
            mirror=mirror,
            head=HeadConfig(kind=head, units=parse_units(units), dropout=dropout, batch_norm=batch_norm),
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            seed=seed,
            engine=engine,
            precision=precision,
            strict=strict,
        )
        run = run_training(config, data, out=out, test_data=test, data_dir=data_dir, reporter=terminal)
        if report:
            write_report(read_run(run.folder), reporter=terminal)
    if as_json:
        print_json(run.to_json())
        return
    print_tables(tables(run.judgement.evaluation))
    print(f"run: {run.folder}   ({run.seconds:.1f} s)")
    if report:
        print(f"report: {run.folder / 'report.html'}")
    print(f"next: tlkeras predict {run.folder} PHOTOS…")


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory or saved classifier.")],
    data: Annotated[str, typer.Argument(help="Labelled data, as for train; its test split where it has one.")],
    engine: EngineOption = "auto",
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a classifier on labelled photos."""
    terminal = Terminal()
    with quiet_tensorflow():
        from tlkeras.data.open import open_dataset
        from tlkeras.evaluation.tables import tables
        from tlkeras.trained import TrainedClassifier, find
        from tlkeras.training.judge import judge

        find(run)  # a wrong directory is told at once, before TensorFlow is loaded
        dataset = open_dataset(data, data_dir=data_dir)
        judgement = judge(TrainedClassifier.load(run), dataset, engine=engine, reporter=terminal)
    if as_json:
        print_json(judgement.evaluation.to_json())
    else:
        print_tables(tables(judgement.evaluation))


def parse_units(text: str) -> tuple[int, ...]:
    """``"256,128"`` as numbers.

    Raises: ConfigError when it is something else.
    """
    from tlkeras.errors import ConfigError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError("--units takes whole numbers with commas between", received=f"'{text}'") from None
