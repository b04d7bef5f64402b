"""``tlkeras demo``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from tlkeras.cli.command import USING, CommandLine, command
from tlkeras.cli.console import quiet_tensorflow
from tlkeras.errors import ConfigError


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
