"""How a command is declared: ``@command`` on a function makes it one, in the file where it stands and nowhere else.

Its options are the function's own parameters (Typer's ``Annotated``) and the fields of the configurations that it is
given (``tlkeras.options``): what Typer is told of them, and what is made of the text typed, stands here too. A
parameter named ``line`` gets what was typed as a :class:`CommandLine`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tlkeras.cli.console import Terminal, print_json, print_tables, quiet_tensorflow, writing_output
from tlkeras.errors import ConfigError
from tlkeras.options import DATA, HEAD, NETWORK, Option, options_of
from tlkeras.training.config import TrainConfig

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


# Fields that say how folders of photos are read; for every command that takes labelled data.
LAYOUT = ("class_from_name", "classes_at")
# The same, and which photos belong together.
GROUPED = (*LAYOUT, "group_by")

BY_NAME = inspect.Parameter.KEYWORD_ONLY
_NOUNS = {int: "whole numbers", float: "numbers", str: "words"}


@dataclasses.dataclass(frozen=True)
class Fields:
    """Fields of a configuration as options of a command.

    only, skip: names of fields, all by default. panel: the heading of those that have none of their own.
    """

    config: type[Any]
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    panel: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, which are those of the parameters too."""
        return self.only or tuple(name for name in options_of(self.config) if name not in self.skip)

    def parameters(self) -> list[inspect.Parameter]:
        """A parameter of a function for each field, as Typer reads it."""
        hints = typing.get_type_hints(self.config)
        known = options_of(self.config)
        return [_parameter(name, hints[name], *known[name], self.panel) for name in self.names]

    def values(self, typed: dict[str, Any], flags: dict[str, str]) -> dict[str, Any]:
        """What the fields hold: ``typed`` is what Typer made of the command line, ``flags`` their names there.

        Raises: ConfigError for text that a field cannot be made of.
        """
        hints = typing.get_type_hints(self.config)
        return {name: _held(flags[name], hints[name], typed[name]) for name in self.names}


def listed(flag: str, text: str, of: type[Any] = str) -> tuple[Any, ...]:
    """What stands between commas, as ``of``; "none" is the empty list.

    Raises: ConfigError that names the option for a word that is none.
    """
    words = [] if text.strip() == "none" else [word.strip() for word in text.split(",") if word.strip()]
    try:
        return tuple(of(word) for word in words)
    except ValueError:
        raise ConfigError(f"{flag} takes {_NOUNS[of]} with commas between", received=f"'{text}'") from None


def _parameter(name: str, kind: Any, field: Any, option: Option, panel: str) -> inspect.Parameter:
    flag = option.flag or f"--{name.replace('_', '-')}"
    default = field.default
    if _item_type(kind) is not None:
        kind, default = (str, ",".join(map(str, default))) if default else (str | None, None)
    elif kind == (int | str):
        kind = str
    elif kind is bool and default:
        flag = f"{flag}/--no-{flag[2:]}"
    info = typer.Option(flag, help=option.help, rich_help_panel=option.panel or panel or None)
    return inspect.Parameter(name, BY_NAME, default=default, annotation=Annotated[kind, info])


def _held(flag: str, kind: Any, value: Any) -> Any:
    """The value of a field from what Typer made of it: lists come as text."""
    if kind == (int | str):
        return int(value) if value.lstrip("-").isdigit() else value
    of = _item_type(kind)
    if of is None:
        return value
    if value is None:
        return None if type(None) in _parts(kind) else ()
    return listed(flag, value, of)


def _item_type(kind: Any) -> Any:
    """What a ``tuple[T, …]``, or one that may be None, holds; None for anything else."""
    found = (typing.get_args(part)[0] for part in _parts(kind) if typing.get_origin(part) is tuple)
    return next(found, None)


def _parts(kind: Any) -> Iterable[Any]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


# Options that several commands have; each says the same everywhere.
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
EngineOption = Annotated[str, Fields(TrainConfig, only=("engine",)).parameters()[0].annotation.__metadata__[0]]
DataDirOption = Annotated[
    str | None,
    typer.Option("--data-dir", help="Folder of TensorFlow Datasets; default TFDS_DATA_DIR or ~/tensorflow_datasets."),
]
IncludeSeenOption = Annotated[
    bool, typer.Option("--include-seen", help="Measure on photos that the classifier was trained on, too.")
]
NetworkArgument = Annotated[str, typer.Argument(help="A backbone ('tlkeras backbones' lists all) or a run directory.")]
WeightsOption = Annotated[
    str, typer.Option("--weights", help="Of a backbone: imagenet, none (random), or a weights file.")
]
SizeOption = Annotated[
    int | None, typer.Option("--size", help="Input size of a backbone in pixels; its own by default.")
]


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


def command(group: str, *fields: Fields, quiet: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command, under one of ``GROUPS``; its name is the function's, with hyphens.

    Every command takes --json. quiet: keep what TensorFlow's C++ parts write while it runs away from the terminal.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        REGISTERED[function.__name__.replace("_", "-")] = _expanded(function, fields, quiet), group
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
