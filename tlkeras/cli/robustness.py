"""``tlkeras robustness``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlkeras.cli.command import LOOKING, CommandLine, command
from tlkeras.cli.console import (
    DataDirOption,
    IncludeSeenOption,
    NetworkArgument,
    SizeOption,
    WeightsOption,
    table,
    write_results,
)
from tlkeras.cli.options import LAYOUT, Fields, listed
from tlkeras.training.config import TrainConfig

if TYPE_CHECKING:
    from tlkeras.attacks.robustness import Robustness


@command(LOOKING, Fields(TrainConfig, only=LAYOUT))
def robustness(
    line: CommandLine,
    network: NetworkArgument,
    data: Annotated[str, typer.Argument(help="Labelled data, as for train; its test split where it has one.")],
    methods: Annotated[
        str | None,
        typer.Option(help="Attacks with commas between, or none; default the usual ones ('tlkeras attack --list')."),
    ] = None,
    corruptions: Annotated[
        str | None, typer.Option(help="blur,noise,jpeg,brightness,contrast,rotation, or none; default all.")
    ] = None,
    epsilons: Annotated[
        str | None, typer.Option(help="Budgets in pixel units with commas between; default 0.5,1,2,4,8,16.")
    ] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    steps: Annotated[int | None, typer.Option(help="Of each attack; default its own.")] = None,
    images: Annotated[int, typer.Option(help="How many images, drawn with the seed.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same figures.")] = 0,
    weights: WeightsOption = "imagenet",
    size: SizeOption = None,
    include_seen: IncludeSeenOption = False,
    data_dir: DataDirOption = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for figures and curves; default robustness/NETWORK-NUMBER.")
    ] = None,
) -> None:
    """Measure accuracy under attacks over a sweep of budgets, and under common corruptions."""
    line.refuse(("epsilons", "norm", "steps"), "with --methods none", unless=methods != "none")
    from tlkeras.attacks.corruptions import CORRUPTIONS
    from tlkeras.attacks.plots import figure_of_robustness
    from tlkeras.attacks.robustness import RobustnessConfig
    from tlkeras.attacks.robustness import robustness as measure
    from tlkeras.data.open import open_dataset
    from tlkeras.images.arrays import figure_bytes
    from tlkeras.run_facts import trained_on
    from tlkeras.storage import new_folder
    from tlkeras.target import load_target
    from tlkeras.training.judge import unseen

    config = RobustnessConfig(
        methods=None if methods is None else listed("--methods", methods),
        corruptions=tuple(CORRUPTIONS) if corruptions is None else listed("--corruptions", corruptions),
        epsilons_255=None if epsilons is None else listed("--epsilons", epsilons, float),
        norm=norm,
        steps=steps,
        images=images,
        seed=seed,
    )
    folder = new_folder(out, "robustness", network)
    dataset = open_dataset(data, data_dir=data_dir, **line.values(TrainConfig), for_training=False)
    line.terminal.say_all(dataset.report())
    is_run = Path(network).is_dir()
    line.refuse(("include_seen",), "for a network of the table", unless=is_run)
    seen: dict[str, Any] = {}
    if is_run:
        dataset, left = unseen(dataset, trained_on(network), include_seen=include_seen)
        seen = {"seen": left.to_json()}
        line.terminal.say_all(left.report())
    found = measure(load_target(network, weights=weights, size_px=size), dataset, config, reporter=line.terminal)
    described = {**found.to_json(), **seen, "data": data, "out": str(folder)}
    pictures = {"robustness.png": figure_bytes(figure_of_robustness(found))}
    write_results(folder, "robustness.json", described, pictures)
    for flag in found.flags:
        line.terminal.say(f"warning: {flag.words}")
    line.answer(described, _robustness_tables(found), f"curves in {folder}")


def _robustness_tables(found: Robustness) -> list[Any]:
    def cell(point: Any) -> str:
        low, high = point.interval
        return f"{100 * point.accuracy:.1f} % ({100 * low:.0f}–{100 * high:.0f})"

    tables = [table(f"{found.images:,} images | accuracy (95 %)", [("clean", cell(found.clean))])]
    for kind, heading, points, name, level in (
        ("attack", "ε {:g}", found.attacks, "method", "epsilon_255"),
        ("corruption", "severity {}", found.corruptions, "corruption", "severity"),
    ):
        if points:
            levels = sorted({getattr(point, level) for point in points})
            names = dict.fromkeys(getattr(point, name) for point in points)
            rows = ((one, *(cell(point) for point in points if getattr(point, name) == one)) for one in names)
            tables.append(table([kind, *(heading.format(value) for value in levels)], rows))
    return tables
