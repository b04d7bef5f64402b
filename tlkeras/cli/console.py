"""What the commands share: where text goes, progress bars, JSON, and a TensorFlow that keeps quiet.

Standard output carries results only; progress, tables beside ``--json`` and warnings go to standard error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tlkeras.errors import printable
from tlkeras.progress import Advance

if TYPE_CHECKING:
    from rich.console import Console


class Terminal:
    """The command line's reporter: lines and progress bars on standard error."""

    def __init__(self) -> None:
        from rich.console import Console

        # An own handle on standard error: TensorFlow's chatter is sent elsewhere while a bar is drawn.
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._handle = os.fdopen(os.dup(2), "w", encoding=encoding, errors="backslashreplace")
        self.console: Console = Console(file=self._handle, highlight=False, soft_wrap=True)
        warnings.showwarning = self._show_warning

    def say(self, text: str) -> None:
        """One line for the user."""
        self.console.print(printable(text), markup=False)

    def say_all(self, lines: Iterable[str]) -> None:
        """Lines for the user."""
        for line in lines:
            self.say(line)

    def _show_warning(self, message: Warning | str, category: Any, filename: str, *_: Any, **__: Any) -> None:
        # Ours as one line each; those of libraries are theirs to mend.
        if f"{os.sep}tlkeras{os.sep}" in filename and category in (UserWarning, RuntimeWarning):
            self.say(f"warning: {' '.join(str(message).split())}")

    @contextlib.contextmanager
    def step(self, name: str, unit: str = "images") -> Iterator[Advance]:
        """A bar with count, rate and time left; off a terminal, one line when the step is done."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn(f"{unit} {{task.fields[rate]}}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        last = (0, 0)
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            bar = bars.add_task(f"{name:>9}", total=None, rate="")

            def advance(done: int, total: int) -> None:
                nonlocal last
                last = (done, total)
                speed = bars.tasks[0].speed
                bars.update(bar, completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

            yield advance
            seconds = bars.tasks[0].elapsed or bars.get_time() - (bars.tasks[0].start_time or bars.get_time())
        done, _ = last
        if done:
            rate = done / max(seconds, 1e-9)
            self.say(f"{name:>9}  {done:,} {unit} in {seconds:.1f} s" + (f" ({rate:,.0f}/s)" if rate >= 1 else ""))


@contextlib.contextmanager
def writing_output() -> Iterator[None]:
    """Write to standard output, to the end.

    Raises: StorageError where it goes into a file and the disk refuses.
    """
    from tlkeras.storage import storage_error

    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise storage_error("standard output", error) from error


def drop_output() -> None:
    """Send what is still to come, and what Python writes at its end, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def print_json(value: Any) -> None:
    """The one JSON object of a command, on standard output."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not is_unicode, allow_nan=False)
    # json.dumps leaves some letters that a terminal obeys as they are.
    sys.stdout.write("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text) + "\n")


def table(columns: str | Sequence[str], rows: Iterable[Iterable[Any]], *, title: str = "") -> Any:
    """A Rich table of plain text: what others chose as names is neither markup nor an order to the terminal.

    columns: the headings, with " | " between or as a list; one that begins with ">" stands over figures.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(printable(title)) if title else None, title_justify="left", box=None, pad_edge=False)
    for heading in columns.split(" | ") if isinstance(columns, str) else columns:
        right = heading.startswith(">")
        made.add_column(Text(printable(heading[right:])), justify="right" if right else "left")
    for row in rows:
        made.add_row(*(Text(printable(str(cell))) for cell in row))
    return made


def print_tables(tables: list[Any]) -> None:
    """Rich tables on standard output, as wide as they need to be where it is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    for table in tables:
        table.title = _shown(table.title)
        for column in table.columns:
            column.header = _shown(column.header)
            column._cells = [_shown(cell) for cell in column.cells]
        console.print(table)


def _shown(cell: Any) -> Any:
    """A cell without what a terminal would obey: names of classes and files are in it that others chose."""
    if isinstance(cell, str):
        return printable(cell)
    if hasattr(cell, "plain") and printable(cell.plain) != cell.plain:
        cell.plain = printable(cell.plain)
    return cell


def write_results(folder: Path, name: str, described: Any, files: dict[str, bytes]) -> None:
    """A new folder with these files, and ``described`` as JSON in ``name``; it appears whole or not at all.

    Raises: StorageError when it exists or the disk refuses.
    """
    from tlkeras.storage import staged_folder, write_bytes, write_json

    with staged_folder(folder) as staged:
        for file, data in files.items():
            write_bytes(staged / file, data)
        write_json(staged / name, described)


def file_stem(label: str) -> str:
    """A label as the beginning of a file name: letters, digits and underscores, at most 60 of them."""
    return re.sub(r"[^\w.]+", "_", label).strip("_.")[:60] or "image"


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keep the lines that TensorFlow's C++ parts write to standard error away from the user.

    They are shown after all when the block fails with an error that is not one of ours. When the process dies inside
    (a failed check in C++ aborts, the system may kill it for want of memory) they stay in a file, and are named.
    """
    from tlkeras.errors import TlkerasError

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    handle, name = tempfile.mkstemp(prefix="tlkeras-", suffix=".log")
    kept = os.dup(2)
    with _told_at_death(name), os.fdopen(handle, "r+b") as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        except (TlkerasError, KeyboardInterrupt, SystemExit, BrokenPipeError, typer.Exit):
            raise
        except BaseException:
            chatter.seek(0)
            os.write(kept, chatter.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


_AT_DEATH = """\
read -r done && exec rm -f "$0"
[ -s "$0" ] || exec rm -f "$0"
echo 'error: the process died; what its parts wrote last is kept in' "$0" >&2
tail -n 30 "$0" >&2
"""


@contextlib.contextmanager
def _told_at_death(log: str) -> Iterator[None]:
    """Remove the file ``log`` at the end; should this process die within, a shell that waits for that tells of it.

    A process cannot tell of its own death, and what it is started by need not be ours.
    """
    try:
        # In a session of its own, so that Ctrl-C does not reach it.
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _AT_DEATH, log], stdin=subprocess.PIPE, cwd="/", start_new_session=True
        )
    except OSError:
        shell = None
    # The Python lines that were running are written too: the caller's faulthandler, if any, is left alone.
    ours = not faulthandler.is_enabled()
    if ours:
        faulthandler.enable(file=2)
    try:
        yield
    finally:
        if ours:
            faulthandler.disable()
        if shell is None:
            Path(log).unlink(missing_ok=True)
        else:
            shell.communicate(b"done\n")
