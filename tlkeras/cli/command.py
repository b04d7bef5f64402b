"""How a command is declared: ``@command`` on a function makes it one, in the file where it stands and nowhere else.

Its options are the function's own parameters (Typer's ``Annotated``) and the fields of the configurations that it is
given (``tlkeras.options``). A parameter named ``line`` gets what was typed as a :class:`CommandLine`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tlkeras.cli.console import JsonOption, Terminal, print_json, print_tables, quiet_tensorflow, writing_output
from tlkeras.cli.options import BY_NAME, Fields
from tlkeras.errors import ConfigError
from tlkeras.options import DATA, HEAD, NETWORK

# The headings of 'tlkeras --help', in this order.
TRAINING = "Train"
USING = "Measure and use"
CHOOSING = "Before training"
LOOKING = "Look inside, and fool"
SHIPPING = "Ship"
KEEPING = "What is there"
GROUPS = (TRAINING, USING, CHOOSING, LOOKING, SHIPPING, KEEPING)

# Every command by its name: (function for Typer, heading).
REGISTERED: dict[str, tuple[Callable[..., None], str]] = {}


class CommandLine:
    """What was typed, and where the answer goes.

    given: the names of the parameters that were typed at all. as_json: whether the answer is one JSON object.
    terminal: who hears of progress, on standard error.
    """

    def __init__(self, context: typer.Context, typed: dict[str, Any], fields: tuple[Fields, ...]) -> None:
        self._typed = typed
        self._fields = fields
        self._flags = {parameter.name: _flag(parameter) for parameter in context.command.params}
        sources = {name: context.get_parameter_source(name) for name in self._flags}
        self.given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
        self.as_json: bool = typed.get("as_json", False)

    @functools.cached_property
    def terminal(self) -> Terminal:
        """Made at first use."""
        return Terminal()

    def values(self, config: type[Any]) -> dict[str, Any]:
        """The options of a configuration, as its fields hold them.

        Raises: ConfigError for text that a field cannot be made of.
        """
        (fields,) = (fields for fields in self._fields if fields.config is config)
        return fields.values(self._typed, self._flags)

    def names(self, config: type[Any]) -> tuple[str, ...]:
        """The names of the options that a configuration brings."""
        return tuple(name for fields in self._fields if fields.config is config for name in fields.names)

    def refuse(self, names: Iterable[str], because: str, *, unless: bool = False) -> None:
        """Refuse options that cannot take effect, where they were given and ``unless`` does not hold.

        because: goes on after "--name has no effect ", such as "without --head mlp".

        Raises: ConfigError that names the first of them.
        """
        if unless:
            return
        for name in names:
            if name in self.given:
                raise ConfigError(f"{self._flags[name]} has no effect {because}", next_step="Leave it out.")

    def refuse_all_but(self, names: Iterable[str], because: str) -> None:
        """Refuse every argument and option that was given, but for these.

        Raises: ConfigError.
        """
        kept = set(names)
        self.refuse((name for name in self._flags if name not in kept), because)

    def answer(self, described: Any, tables: Iterable[Any] = (), *words: str) -> None:
        """The result, on standard output: ``described`` with --json, else tables and lines of text."""
        with writing_output():
            if self.as_json:
                print_json(described)
                return
            print_tables(list(tables))
            for line in words:
                print(line)


def command(
    group: str, *fields: Fields, name: str = "", quiet: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command, under one of ``GROUPS``; its name is the function's, with hyphens.

    Every command takes --json. quiet: keep what TensorFlow's C++ parts write while it runs away from the terminal.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        REGISTERED[name or function.__name__.replace("_", "-")] = _expanded(function, fields, quiet), group
        return function

    return register


def _expanded(function: Callable[..., None], fields: tuple[Fields, ...], quiet: bool) -> Callable[..., None]:
    """``function`` with the fields' options among its parameters, as Typer reads them."""
    own = inspect.signature(function, eval_str=True).parameters
    parameters = [parameter.replace(kind=BY_NAME) for name, parameter in own.items() if name != "line"]
    parameters += [parameter for part in fields for parameter in part.parameters()]
    parameters.append(inspect.Parameter("as_json", BY_NAME, default=False, annotation=JsonOption))

    @functools.wraps(function)
    def call(context: typer.Context, **typed: Any) -> None:
        line = CommandLine(context, typed, fields)
        given = {name: value for name, value in {**typed, "line": line}.items() if name in own}
        if not quiet:
            function(**given)
            return
        _ = line.terminal  # holds on to standard error before that is redirected
        with quiet_tensorflow():
            function(**given)

    parameters.insert(0, inspect.Parameter("context", BY_NAME, annotation=typer.Context))
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _flag(parameter: Any) -> str:
    return parameter.opts[0] if parameter.param_type_name == "option" else (parameter.metavar or parameter.name.upper())


class Command(TyperCommand):
    """A command whose help lists its options under their headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options: the general ones first."""
        sections: dict[str, list[Any]] = {heading: [] for heading in ("Arguments", "Options", DATA, NETWORK, HEAD)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                heading = "Arguments" if parameter.param_type_name == "argument" else _panel(parameter) or "Options"
                sections.setdefault(heading, []).append(record)
        _write_sections(formatter, sections)


class Commands(TyperGroup):
    """All commands, listed under the headings of ``GROUPS``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the headings with their commands; the only option is the help itself."""
        rows: dict[str, list[Any]] = {group: [] for group in GROUPS}
        width = formatter.width - 6 - max(map(len, self.commands))
        for name, made in self.commands.items():
            rows[_panel(made)].append((name, made.get_short_help_str(width)))
        _write_sections(formatter, rows)


def _panel(of: Any) -> str:
    # Typer gives None, or a placeholder of its own, where there is none.
    panel = getattr(of, "rich_help_panel", None)
    return panel if isinstance(panel, str) else ""


def _write_sections(formatter: Any, sections: dict[str, list[Any]]) -> None:
    for heading, records in sections.items():
        if records:
            with formatter.section(heading):
                formatter.write_dl(records)
