"""``tlkeras train`` and ``tlkeras evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlkeras.cli.console import (
    BackboneOption,
    DataDirOption,
    EngineOption,
    FitOption,
    JsonOption,
    MirrorOption,
    PretrainedOption,
    Terminal,
    print_json,
    print_tables,
    quiet_tensorflow,
)
from tlkeras.cli.scaling import MemoryOption, holds_features, train_on_features

if TYPE_CHECKING:
    from tlkeras.training.run import Run


def train(
    data: Annotated[
        str | None,
        typer.Argument(help="Folder of photos or extracted features, CSV list, TFDS name (cats_vs_dogs …), or demo."),
    ] = None,
    backbone: BackboneOption = None,
    weights: PretrainedOption = "pretrained",
    size: Annotated[int | None, typer.Option(help="Input size in pixels; the backbone's own by default.")] = None,
    fit: FitOption = "auto",
    mirror: MirrorOption = False,
    head: Annotated[str, typer.Option(help="linear, mlp, or auto: the best of several within --budget-s.")] = "linear",
    units: Annotated[str, typer.Option(help="Hidden units of the mlp head, as 256 or 256,128.")] = "256",
    dropout: Annotated[float, typer.Option(help="Dropout of the mlp head.")] = 0.3,
    batch_norm: Annotated[bool, typer.Option(help="Batch normalisation in the mlp head.")] = True,
    budget_s: Annotated[float, typer.Option(help="Seconds that --head auto may take.")] = 120.0,
    test: Annotated[str | None, typer.Option(help="Other data to measure on, instead of a split of DATA.")] = None,
    validation_fraction: Annotated[float, typer.Option(help="Share split off for choosing the head.")] = 0.15,
    test_fraction: Annotated[float, typer.Option(help="Share split off for measuring.")] = 0.15,
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/DATA-BACKBONE-NUMBER.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop when a photo is rejected.")] = False,
    engine: EngineOption = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 (faster where OpenVINO and the CPU have it).")] = "fp32",
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write RUN/report.html.")] = True,
    memory_gb: MemoryOption = 2.0,
    data_dir: DataDirOption = None,
    fine_tune: Annotated[
        int | None, typer.Option(help="Train the network on too, for so many epochs; kept if validation gets better.")
    ] = None,
    unfreeze: Annotated[
        str, typer.Option(help="How many last blocks of the network are trained: a number or all.")
    ] = "all",
    gradual: Annotated[
        bool, typer.Option("--gradual", help="Unfreeze one block an epoch, the last one first.")
    ] = False,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest rate, of head and last block; default 0.0003 for adamw, 0.01 for sgd.")
    ] = None,
    rate_decay: Annotated[float, typer.Option(help="Each block's rate over that of the block behind it.")] = 0.8,
    schedule: Annotated[str, typer.Option(help="Rate after the warm-up: cosine or constant.")] = "cosine",
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")] = 0.1,
    optimiser: Annotated[str, typer.Option(help="adamw, or sgd (with Nesterov momentum).")] = "adamw",
    momentum: Annotated[float, typer.Option(help="Momentum of sgd.")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="Decoupled; norms and biases are spared.")] = 0.01,
    clip_norm: Annotated[float, typer.Option(help="Longest gradient; 0 for no limit.")] = 1.0,
    label_smoothing: Annotated[float, typer.Option(help="Share of the target that all classes get alike.")] = 0.05,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights; 0 for none.")] = 0.99,
    soup: Annotated[int, typer.Option(help="With --no-refit: how many best epochs are averaged; 0 for none.")] = 3,
    patience: Annotated[int, typer.Option(help="Epochs without a better validation before it stops; 0: never.")] = 5,
    refit: Annotated[
        bool, typer.Option("--refit/--no-refit", help="Train what won once more, on the validation photos too.")
    ] = True,
    batch_size: Annotated[int, typer.Option(help="Photos a step.")] = 32,
    augment: Annotated[str, typer.Option(help="Changes of the photos: off, light, strong, or auto.")] = "auto",
    batch_statistics: Annotated[
        bool, typer.Option("--batch-statistics", help="Let batch normalisation follow the batches.")
    ] = False,
    mixed_precision: Annotated[
        bool, typer.Option("--mixed-precision", help="Compute in bfloat16, on GPUs that have it.")
    ] = False,
    devices: Annotated[str | None, typer.Option(help="Devices that share each batch, as gpu:0,gpu:1.")] = None,
    save_seconds: Annotated[
        float, typer.Option(help="Save the state this often, and at the end of each epoch.")
    ] = 60.0,
    find_rate: Annotated[
        bool, typer.Option("--find-rate", help="Only find the learning rate for fine-tuning; draws a plot.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run of this directory that was stopped; takes no DATA.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier on a pretrained network's features, measure it and save it.

    The options from --unfreeze to --save-seconds belong to --fine-tune (and --find-rate).
    """
    terminal = Terminal()
    with quiet_tensorflow():
        from tlkeras.errors import ConfigError
        from tlkeras.evaluation.tables import search_tables, tables
        from tlkeras.heads.config import head_named
        from tlkeras.report.build import write_report
        from tlkeras.run_facts import read_run
        from tlkeras.training.config import DEFAULT_BACKBONE, DEMO_BACKBONE, TrainConfig
        from tlkeras.training.fine_tune_config import FineTuneConfig
        from tlkeras.training.run import resume as resume_training
        from tlkeras.training.run import train as run_training

        if (data is None) == (resume is None):
            raise ConfigError(
                "train takes either DATA or --resume RUN", received="both" if data else "neither", next_step="Give one."
            )
        tuning = FineTuneConfig(
            epochs=1 if fine_tune is None else fine_tune,
            unfreeze=parse_unfreeze(unfreeze),
            gradual=gradual,
            learning_rate=learning_rate,
            rate_decay=rate_decay,
            schedule=schedule,
            warmup=warmup,
            optimiser=optimiser,
            momentum=momentum,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            label_smoothing=label_smoothing,
            ema=ema,
            soup=soup,
            patience=patience,
            refit=refit,
            batch_size=batch_size,
            augment=augment,
            batch_statistics=batch_statistics,
            mixed_precision=mixed_precision,
            devices=tuple(name.strip() for name in devices.split(",")) if devices else (),
            save_seconds=save_seconds,
        )
        config = TrainConfig(
            backbone=backbone or (DEMO_BACKBONE if data == "demo" else DEFAULT_BACKBONE),
            weights=weights,
            size_px=size,
            fit=fit,
            mirror=mirror,
            head=head_named(head, units=parse_units(units), dropout=dropout, batch_norm=batch_norm, budget_s=budget_s),
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            seed=seed,
            engine=engine,
            precision=precision,
            strict=strict,
            fine_tune=tuning if fine_tune is not None or find_rate else None,
        )
        if data is not None and holds_features(data):
            train_on_features(config, data, out, test, memory_gb, terminal, as_json)
            return
        if find_rate:
            from tlkeras.training.rate_finder import find_rate as find

            found = find(config, data or "", out=out, test_data=test, data_dir=data_dir, reporter=terminal)
        elif resume is not None:
            run = resume_training(resume, reporter=terminal)
        else:
            run = run_training(config, data or "", out=out, test_data=test, data_dir=data_dir, reporter=terminal)
        if report and not find_rate:
            write_report(read_run(run.folder), reporter=terminal)
    if find_rate:
        if as_json:
            print_json(found.to_json())
        else:
            print(f"learning rate: {found.rate:.1e}   plot: {found.folder / 'rate_finder.png'}")
            print(f"next: tlkeras train {data} --fine-tune 10 --learning-rate {found.rate:.1e}")
        return
    if as_json:
        print_json(run.to_json())
        return
    print_tables([*tables(run.judgement.evaluation), *search_tables(run.fitted.head.description)])
    if run.fitted.fine_tuning is not None:
        print(told(run))
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


def told(run: Run) -> str:
    """One line on what fine-tuning was worth, on validation and on the test."""
    tuning = run.fitted.fine_tuning
    assert tuning is not None
    if tuning.kept_frozen:
        return f"fine-tuning: the frozen network is kept: {tuning.contest.reason}"
    before, after = (100 * j.evaluation.accuracy for j in (run.frozen_judgement, run.judgement))
    return f"fine-tuning: kept, {before:.1f} % frozen, {after:.1f} % fine-tuned on the test: {tuning.contest.reason}"


def parse_unfreeze(text: str) -> int | str:
    """``"all"`` or a number of blocks.

    Raises: ConfigError when it is something else.
    """
    from tlkeras.errors import ConfigError

    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError("--unfreeze takes a number of blocks or all", received=f"'{text}'") from None


def parse_units(text: str) -> tuple[int, ...]:
    """``"256,128"`` as numbers.

    Raises: ConfigError when it is something else.
    """
    from tlkeras.errors import ConfigError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError("--units takes whole numbers with commas between", received=f"'{text}'") from None
