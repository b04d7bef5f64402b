"""``tlkeras report``, ``tlkeras diff`` and ``tlkeras demo``: runs as pages."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlkeras.cli.command import USING, CommandLine, DataDirOption, EngineOption, IncludeSeenOption, command
from tlkeras.cli.console import Terminal, quiet_tensorflow, table
from tlkeras.errors import ConfigError, printable

if TYPE_CHECKING:
    from tlkeras.run_facts import RunFacts

# Rows of a table of flipped photos.
_FLIPS = 30


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
) -> None:
    """Write the report of a run as one HTML file, and on request its model card."""
    line.refuse(("include_seen", "engine", "data_dir"), "without DATA", unless=data is not None)
    from tlkeras.export.card import model_card
    from tlkeras.report.build import write_report
    from tlkeras.run_facts import read_run
    from tlkeras.storage import write_bytes

    facts = read_run(run)
    if data is not None:
        facts = _measured(facts, data, data_dir, engine, include_seen, line.terminal)
    made = None
    if full:
        from tlkeras.report.heavy import make_missing

        made = make_missing(facts, line.terminal)
    path = write_report(facts, out, export=export)
    if card is not None:
        write_bytes(card, model_card(facts).encode())
    described = {
        "report": str(path),
        "card": None if card is None else str(card),
        "made": None if made is None else str(made),
        "bytes": path.stat().st_size,
    }
    line.answer(
        described,
        [],
        f"report: {path}   ({path.stat().st_size / 1e6:.1f} MB)",
        *([] if card is None else [f"card: {card}"]),
        *([] if full else [f"next: tlkeras report {run} --full   (heat maps, ideal images, an attack, robustness)"]),
    )


def _measured(
    facts: RunFacts, data: str, data_dir: str | None, engine: str, include_seen: bool, terminal: Terminal
) -> RunFacts:
    """The run, measured anew on ``data``."""
    from tlkeras.cli.training import measured

    measurement = measured(facts.folder, data, data_dir, engine, include_seen, terminal)
    images = measurement.images
    return facts.measured(measurement.evaluation, measurement.answers, images.paths, images.name)


@command(USING)
def diff(
    line: CommandLine,
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="Run directory.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Run directory, compared with the first.")],
    out: Annotated[
        Path | None, typer.Option(help="Also write a page with the photos that flipped, one HTML file.")
    ] = None,
) -> None:
    """Compare two runs on the photos that both have judged: what is gained, whether by chance, which photos flipped."""
    from tlkeras.report.difference import difference, write_difference
    from tlkeras.run_facts import read_run

    if out is not None and out.is_dir():
        raise ConfigError(f"'{out}' is a folder", next_step="Give --out the name of a file.")
    found = difference(read_run(first), read_run(second))
    line.terminal.say_all(found.notes)
    rows = [
        (
            flip.kind,
            printable(flip.second.path),
            flip.second.label,
            *(f"{one.predicted} {100 * one.probability:.0f} %" for one in (flip.first, flip.second)),
        )
        for flip in found.flips[:_FLIPS]
    ]
    more = f", {_FLIPS} of {len(found.flips):,}" if len(found.flips) > _FLIPS else ""
    columns = "flipped | photo | class | first | second"
    shown = [table(columns, rows, title=f"Photos with another answer{more}")] if rows else []
    page = None if out is None else write_difference(found, out)
    described = {**found.to_json(), "page": None if page is None else str(page)}
    line.answer(described, shown, found.sentence, *([] if page is None else [f"page: {page}"]))


@command(USING, quiet=False)
def demo(
    line: CommandLine,
    run: Annotated[Path, typer.Argument(help="Run directory or saved classifier.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets others on the network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 7860,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:PASSWORD",
            help="What visitors must log in with. Without it, an address that others can reach carries a secret token.",
            envvar="TLKERAS_DEMO_AUTH",
        ),
    ] = None,
) -> None:
    """Open a page to try a classifier: classes, where it looks, and how it is fooled. Ctrl-C ends it."""
    login = _login(auth)
    with contextlib.ExitStack() as open_page:
        with quiet_tensorflow():
            from tlkeras.demo.page import gradio, serving
            from tlkeras.trained import find

            find(run)  # a wrong directory and a missing package are told at once, before TensorFlow is loaded
            gradio()
            address = open_page.enter_context(serving(run, host=host, port=port, auth=login))
        line.answer({"run": str(run), "address": address})
        line.terminal.say(f"{run} is at {address} until Ctrl-C")
        _until_interrupted()
    line.terminal.say("the page is closed")


def _login(auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        return None
    name, _, password = auth.partition(":")
    if not name or not password:
        raise ConfigError("--auth must be NAME:PASSWORD, neither of them empty")
    return name, password


def _until_interrupted() -> None:
    import threading

    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
