"""``tlkeras train`` and ``tlkeras evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlkeras.cli.command import (
    GROUPED,
    LAYOUT,
    TRAINING,
    USING,
    CommandLine,
    DataDirOption,
    EngineOption,
    Fields,
    IncludeSeenOption,
    command,
)
from tlkeras.cli.console import Terminal, table
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.heads.config import AUTO, HeadConfig, HeadSearch, head_named
from tlkeras.options import DATA
from tlkeras.training.config import DEMO_BACKBONE, TrainConfig

if TYPE_CHECKING:
    from tlkeras.evaluation.metrics import Evaluation
    from tlkeras.training.measure import Measurement
    from tlkeras.training.run import Run

_TUNING = "Fine-tuning, with --fine-tune"
# What extracted features bring with them, or cannot give.
_OF_NETWORK = ("backbone", "size_px", "fit", "mirror", "engine", "precision")
_OF_PHOTOS = (*_OF_NETWORK, *LAYOUT, "test", "data_dir", "fine_tune", "find_rate")
# What looking for a learning rate does without.
_NOT_FOR_A_RATE = (
    "fine_tune",
    "learning_rate",
    "warmup",
    "ema",
    "patience",
    "refit",
    "save_seconds",
    "report",
)


# Up to here a confusion matrix fits a terminal, and classes are listed in their own order.
_SMALL = 12
_WORST_CLASSES = 20
_PAIRS = 10


@command(
    TRAINING,
    Fields(TrainConfig),
    Fields(HeadConfig),
    Fields(HeadSearch, skip=("kind",)),
    Fields(FineTuneConfig, skip=("epochs",), panel=_TUNING),
)
def train(
    line: CommandLine,
    data: Annotated[
        str | None,
        typer.Argument(help="Folder of photos or extracted features, CSV list, TFDS name (cats_vs_dogs …), or demo."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/DATA-BACKBONE-NUMBER.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run of this directory that was stopped; takes no DATA.")
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write RUN/report.html.")] = True,
    test: Annotated[
        str | None, typer.Option(help="Other data to measure on, instead of a split of DATA.", rich_help_panel=DATA)
    ] = None,
    data_dir: DataDirOption = None,
    fine_tune: Annotated[
        int | None,
        typer.Option(
            help="Train the network on too, for so many epochs; kept if validation gets better.",
            rich_help_panel=_TUNING,
        ),
    ] = None,
    find_rate: Annotated[
        bool,
        typer.Option(
            "--find-rate", help="Only find the learning rate for fine-tuning; draws a plot.", rich_help_panel=_TUNING
        ),
    ] = False,
) -> None:
    """Train a classifier on a pretrained network's features, measure it and save it."""
    from tlkeras.errors import ConfigError
    from tlkeras.features.shards import holds_features

    if (data is None) == (resume is None):
        raise ConfigError(
            "train takes either DATA or --resume RUN", received="both" if data else "neither", next_step="Give one."
        )
    if resume is not None:
        line.refuse_all_but(("resume", "report", "as_json"), "with --resume: a run goes on as it was begun")
    tuning = fine_tune is not None or find_rate
    head = line.values(HeadConfig) | line.values(HeadSearch)
    kind = head.pop("kind")
    tuned = line.values(FineTuneConfig)
    stored = data is not None and holds_features(data)
    # Which options belong to what.
    for names, takes_effect, because in (
        (line.names(FineTuneConfig), tuning, "without --fine-tune"),
        (("units", "dropout", "batch_norm"), kind == "mlp", "without --head mlp"),
        (("budget_s",), kind == AUTO, "without --head auto"),
        (("test_fraction",), test is None, "with --test"),
        (_OF_PHOTOS, not stored, "on extracted features"),
        (_NOT_FOR_A_RATE, not find_rate, "with --find-rate"),
    ):
        line.refuse(names, because, unless=takes_effect)
    options = train_options(line, data)
    fine_tuning = FineTuneConfig(epochs=1 if fine_tune is None else fine_tune, **tuned)
    from tlkeras.report.build import write_report
    from tlkeras.run_facts import read_run
    from tlkeras.training.run import find_rate as search_rate
    from tlkeras.training.run import resume as resume_training
    from tlkeras.training.run import train as run_training

    config = TrainConfig(**options, head=head_named(kind, **head), fine_tune=fine_tuning if tuning else None)
    inputs: dict[str, Any] = {"out": out, "test_data": test, "data_dir": data_dir, "reporter": line.terminal}
    if find_rate:
        found = search_rate(config, data or "", **inputs)
        line.answer(
            found.to_json(),
            [],
            f"learning rate: {found.rate:.1e}   plot: {found.folder / 'rate_finder.png'}",
            f"next: tlkeras train {data} --fine-tune 10 --learning-rate {found.rate:.1e}",
        )
        return
    if resume is None:
        run = run_training(config, data or "", **inputs)
    else:
        run = resume_training(resume, reporter=line.terminal)
    if report:
        write_report(read_run(run.folder), reporter=line.terminal)
    line.answer(
        run.to_json(),
        [*tables(run.measurement.evaluation), *search_tables(run.fitted.head.description)],
        *([told(run)] if run.fitted.fine_tuning is not None else []),
        f"run: {run.folder}   ({run.seconds:.1f} s)",
        *([f"report: {run.folder / 'report.html'}"] if report else []),
        f"next: tlkeras predict {run.folder} PHOTOS…",
    )


@command(USING, Fields(TrainConfig, only=GROUPED))
def evaluate(
    line: CommandLine,
    run: Annotated[Path, typer.Argument(help="Run directory or saved classifier.")],
    data: Annotated[str, typer.Argument(help="Labelled data, as for train; its test split where it has one.")],
    include_seen: IncludeSeenOption = False,
    engine: EngineOption = "auto",
    data_dir: DataDirOption = None,
) -> None:
    """Measure a classifier on labelled photos; those that it was trained on are left out."""
    from tlkeras.features.shards import holds_features

    line.refuse((*LAYOUT, "engine", "data_dir"), "on extracted features", unless=not holds_features(data))
    measurement = measured(run, data, data_dir, engine, include_seen, line.terminal, **line.values(TrainConfig))
    line.answer(measurement.to_json(), tables(measurement.evaluation))


def measured(
    run: Path, data: str, data_dir: str | None, engine: str, include_seen: bool, terminal: Terminal, **layout: Any
) -> Measurement:
    """A run, measured on ``data``, with lines on what was left out and what it has seen in training."""
    from tlkeras.run_facts import trained_on
    from tlkeras.trained import TrainedClassifier
    from tlkeras.training.measure import measure
    from tlkeras.training.source import images_of, open_data

    seen = trained_on(run)  # a wrong directory is told at once, before TensorFlow is loaded
    opened = open_data(data, data_dir=data_dir, **layout, for_training=False)
    terminal.say_all(images_of(opened).report())
    measurement = measure(
        TrainedClassifier.load(run),
        opened,
        trained_on=seen,
        include_seen=include_seen,
        engine=engine,
        reporter=terminal,
    )
    if measurement.seen is not None:
        terminal.say_all(measurement.seen.report())
    return measurement


def told(run: Run) -> str:
    """One line on what fine-tuning was worth, on validation and on the test."""
    tuning = run.fitted.fine_tuning
    assert tuning is not None
    if tuning.kept_frozen:
        return f"fine-tuning: the frozen network is kept: {tuning.contest.reason}"
    before, after = (100 * j.evaluation.accuracy for j in (run.frozen_measurement, run.measurement))
    return f"fine-tuning: kept, {before:.1f} % frozen, {after:.1f} % fine-tuned on the test: {tuning.contest.reason}"


def train_options(line: CommandLine, data: str | None) -> dict[str, Any]:
    """The fields of a TrainConfig; where no network was named, the demo gets its own."""
    options = line.values(TrainConfig)
    if data == "demo" and "backbone" not in line.given:
        options["backbone"] = DEMO_BACKBONE
    return options


def tables(evaluation: Evaluation) -> list[Any]:
    """The headline, the classes, the most confused pairs and, up to 12 classes, the confusion matrix.

    With more than 12 classes the worst 20 are listed, worst first. Pairs are left out when nothing was confused.
    """
    from tlkeras.evaluation.metrics import measured_words, percent

    def within(share: float, interval: tuple[float, float]) -> str:
        return f"{percent(share)}  (95 %: {percent(interval[0])} to {percent(interval[1])})"

    headline = [("images", evaluation.images), ("accuracy", within(evaluation.accuracy, evaluation.accuracy_interval))]
    if evaluation.folds > 1:
        headline.append(("measured", measured_words(evaluation.images, evaluation.folds)))
    headline += [
        ("mean per-class accuracy", percent(evaluation.mean_per_class_accuracy)),
        ("macro F1", within(evaluation.macro_f1, evaluation.macro_f1_interval)),
    ]
    if evaluation.top5_accuracy is not None:
        headline.append(("top-5 accuracy", percent(evaluation.top5_accuracy)))
    headline += [("log loss", f"{evaluation.log_loss:.4f}"), ("calibration error (ECE)", percent(evaluation.ece))]
    figures, title = list(evaluation.per_class), "Classes"
    if len(figures) > _SMALL:
        known = (c for c in figures if c.recall is not None)
        figures = sorted(known, key=lambda c: (c.f1 or 0.0, c.recall or 0.0))[:_WORST_CLASSES]
        title = f"Classes, worst {len(figures)} of {len(evaluation.class_names)}"
    classes = (
        (
            c.name,
            c.images,
            percent(c.precision),
            percent(c.recall),
            "–" if c.recall_interval is None else " to ".join(f"{100 * bound:.0f}" for bound in c.recall_interval),
            percent(c.f1),
        )
        for c in figures
    )
    shown = [
        table("measure | value", headline, title="Evaluation"),
        table("class | >images | >precision | >recall | >95 % | >F1", classes, title=title),
    ]
    if pairs := confused_pairs(evaluation):
        shown.append(table("true | predicted | >images", pairs, title="Most confused"))
    names = evaluation.class_names
    if len(names) <= _SMALL:
        counts = ((name, *(n or "·" for n in row)) for name, row in zip(names, evaluation.confusion, strict=True))
        columns = ["true \\ predicted", *(f">{name}" for name in names)]
        shown.append(table(columns, counts, title="Confusion matrix (images)"))
    return shown


def search_tables(head: Mapping[str, Any]) -> list[Any]:
    """The candidates of a head search; none where ``head``, its description, has no search."""
    from tlkeras.evaluation.metrics import percent

    search = head.get("search")
    if search is None:
        return []
    rows = (
        (
            row["name"],
            "–" if row["log_loss"] is None else f"{row['log_loss']:.4f}",
            percent(row["accuracy"]),
            f"{row['seconds']:.1f}",
            "chosen" if row["name"] == search["chosen"] else row["note"],
        )
        for row in search["candidates"]
    )
    return [table("candidate | >log loss | >accuracy | >seconds | ", rows, title="Heads on held-out images")]


def confused_pairs(evaluation: Evaluation, limit: int = _PAIRS) -> list[tuple[str, str, int]]:
    """(true class, predicted class, images) for the most frequent confusions, most images first."""
    names = evaluation.class_names
    pairs = [
        (names[row], names[column], images)
        for row, counts in enumerate(evaluation.confusion)
        for column, images in enumerate(counts)
        if row != column and images
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:limit]
