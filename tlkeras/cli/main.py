"""The entry point: commands, exit codes, and errors as one line."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import pkgutil
import signal
import sys
from typing import Any

import typer

from tlkeras import cli
from tlkeras.cli.command import REGISTERED, Command, Commands
from tlkeras.cli.console import drop_output
from tlkeras.errors import TlkerasError, printable
from tlkeras.storage import storage_error

INTERRUPTED = 130
# What these compute waits in the cache, or in shards, for the next time.
KEEP_WORK = ("train", "evaluate", "extract", "audit", "compare", "few-shot")

# A file beside this one that holds a function with @command is a command; nothing else lists it. What is heavy is
# imported by the functions when they are called.
for found in pkgutil.iter_modules(cli.__path__, f"{cli.__name__}."):
    if found.name != f"{cli.__name__}.main":
        importlib.import_module(found.name)

app = typer.Typer(
    name="tlkeras",
    cls=Commands,
    help="Turn a folder of photos into an image classifier, by transfer learning with Keras on TensorFlow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for name, (function, group) in sorted(REGISTERED.items()):
    app.command(name, cls=Command, rich_help_panel=group)(function)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # SIGTERM ends a long step as Ctrl-C does: what is finished is stored.
    signal.signal(signal.SIGTERM, _interrupt)
    _prepare_streams()
    try:
        result = app(arguments, standalone_mode=False)
    except TlkerasError as error:
        return _fail(str(error), error.exit_code, prefix="" if error.exit_code == INTERRUPTED else "error: ")
    except BrokenPipeError:
        # Whoever read our output has gone (`tlkeras backbones | head`); that is no error of ours.
        drop_output()
        return 0
    except OSError as error:
        # The system's own no, to a name that is too long for it, or a folder that nobody may look into.
        name = str(error.filename or "")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(str(storage_error(name, error)), 2)
        shown = f"{name[:60]}…{name[-20:]}" if len(name) > 100 else name
        return _fail(
            f"{(error.strerror or str(error)).lower()}; received '{shown}'. Check the name and its permissions.", 2
        )
    except typer.Exit as stop:
        return int(stop.exit_code)
    except Exception as error:
        if _lacks_memory(error):
            return _fail("the memory is used up; close other programs, or raise its limit (ulimit -v). Nothing is half "
                         "written.", 2)  # fmt: skip
        # What the parser says of a wrong command line, known by the exit code that it wants for it.
        if not hasattr(error, "format_message"):
            raise
        return _fail(_usage(error, arguments), 2)
    # The parser turns KeyboardInterrupt into this code.
    if result == INTERRUPTED:
        return _fail(_interrupted(arguments), INTERRUPTED, prefix="")
    return int(result or 0)


def _lacks_memory(error: BaseException) -> bool:
    """Whether it is the system that had no more memory: each library says so in its own way."""
    said = f"{type(error).__name__} {error}"
    return any(word in said for word in ("MemoryError", "ResourceExhausted", "bad_alloc", "allocate memory",
                                         "failed to map segment", "OOM when allocating"))  # fmt: skip


def _prepare_streams() -> None:
    """Standard output and error that can be written: no traceback after all the work."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:  # closed (`>&-`): what is opened next would get its number
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
        # A terminal or a pipe that cannot show a letter gets its escape.
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _interrupted(arguments: list[str]) -> str:
    command = next((word for word in arguments if not word.startswith("-")), "")
    to_shards = command == "predict" and any(word == "--to" or word.startswith("--to=") for word in arguments)
    if command in KEEP_WORK or to_shards:
        return "interrupted; what was finished is kept, and the same command goes on from there"
    return "interrupted; nothing was written, and the same command begins anew"


def _usage(error: Any, arguments: list[str]) -> str:
    message = error.format_message().rstrip(".")
    words = [word for word in arguments if not word.startswith("-")]
    command = words[0] if words else ""
    if message.startswith("No such command"):
        near = difflib.get_close_matches(command, REGISTERED, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(REGISTERED)}."
        return f"unknown command '{command}'; {hint} 'tlkeras --help' lists all."
    known = f"tlkeras {command}" if command in REGISTERED else "tlkeras"
    return f"{message[:1].lower()}{message[1:]}. '{known} --help' shows what there is."


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _fail(line: str, code: int, prefix: str = "error: ") -> int:
    print(f"{prefix}{printable(' '.join(line.split()))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
