"""``tlkeras report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlkeras.cli.command import USING, CommandLine, command
from tlkeras.cli.console import (
    DataDirOption,
    EngineOption,
    IncludeSeenOption,
    JsonOption,
    Terminal,
    print_json,
    quiet_tensorflow,
)

if TYPE_CHECKING:
    from tlkeras.run_facts import RunFacts


@command(USING)
def report(
    line: CommandLine,
    run: Annotated[Path, typer.Argument(help="Run directory or saved classifier.")],
    data: Annotated[
        str | None, typer.Argument(help="Labelled data to measure on; by default what the run was measured on.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file; default RUN/report.html, which is replaced.")] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Also make heat maps, ideal images, an attack and robustness curves; minutes."),
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Published version whose check is shown; default the latest inside RUN.")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Also write the model card to this file.")] = None,
    include_seen: IncludeSeenOption = False,
    engine: EngineOption = "auto",
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run as one HTML file, and on request its model card."""
    line.refuse(("include_seen", "engine", "data_dir"), "without DATA", unless=data is not None)
    terminal = Terminal()
    with quiet_tensorflow():
        from tlkeras.export.card import model_card
        from tlkeras.report.build import write_report
        from tlkeras.run_facts import read_run
        from tlkeras.storage import write_bytes

        facts = read_run(run)
        if data is not None:
            facts = _measured(facts, data, data_dir, engine, include_seen, terminal)
        made = None
        if full:
            from tlkeras.report.heavy import make_missing

            made = make_missing(facts, terminal)
        path = write_report(facts, out, export=export)
        if card is not None:
            write_bytes(card, model_card(facts).encode())
    if as_json:
        files = {"report": str(path), "card": None if card is None else str(card)}
        print_json({**files, "made": None if made is None else str(made), "bytes": path.stat().st_size})
        return
    print(f"report: {path}   ({path.stat().st_size / 1e6:.1f} MB)")
    if card is not None:
        print(f"card: {card}")
    if not full:
        print(f"next: tlkeras report {run} --full   (heat maps, ideal images, an attack, robustness)")


def _measured(
    facts: RunFacts, data: str, data_dir: str | None, engine: str, include_seen: bool, terminal: Terminal
) -> RunFacts:
    """The run, measured anew on ``data``."""
    from tlkeras.cli.training import judged

    judgement = judged(facts.folder, data, data_dir, engine, include_seen, terminal)
    images = judgement.images
    return facts.measured(judgement.evaluation, judgement.answers, images.paths, images.name)
