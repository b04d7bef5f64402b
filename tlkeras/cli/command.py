"""How a command is declared: ``@command`` on a function makes it one, in the file where it stands and nowhere else.

Its options are the function's own parameters (Typer's ``Annotated``) and the fields of the configurations that it is
given (``tlkeras.options``). A parameter named ``line`` gets what was typed as a :class:`CommandLine`.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tlkeras.errors import ConfigError
from tlkeras.options import DATA, HEAD, NETWORK, Option, options_of

# The headings of 'tlkeras --help', in this order.
TRAINING = "Train"
USING = "Measure and use"
CHOOSING = "Before training"
LOOKING = "Look inside, and fool"
SHIPPING = "Ship"
KEEPING = "What is there"
GROUPS = (TRAINING, USING, CHOOSING, LOOKING, SHIPPING, KEEPING)


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


@dataclass(frozen=True)
class Fields:
    """Fields of a configuration as options of a command.

    only, skip: names of fields, all by default. panel: the heading of those that have none of their own.
    """

    config: type[Any]
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    panel: str = ""

    def options(self) -> dict[str, tuple[Any, Option]]:
        """Field and option by name."""
        known = options_of(self.config)
        names = self.only or tuple(name for name in known if name not in self.skip)
        return {name: known[name] for name in names}


class CommandLine:
    """What was typed: values of the configurations' fields, and which options were given at all."""

    def __init__(self, context: typer.Context, values: dict[str, Any], fields: tuple[Fields, ...]) -> None:
        self._values = values
        self._fields = fields
        self._flags = {parameter.name: _name(parameter) for parameter in context.command.params}
        sources = {name: context.get_parameter_source(name) for name in self._flags}
        self.given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}

    def values(self, config: type[Any]) -> dict[str, Any]:
        """The options of a configuration, as its fields hold them.

        Raises: ConfigError for text that a field cannot be made of.
        """
        (fields,) = (fields for fields in self._fields if fields.config is config)
        hints = typing.get_type_hints(config)
        return {name: _parsed(self._flags[name], hints[name], self._values[name]) for name in fields.options()}

    def names(self, config: type[Any]) -> tuple[str, ...]:
        """The names of the options that a configuration brings."""
        return tuple(name for fields in self._fields if fields.config is config for name in fields.options())

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


# Fields of a configuration that say how folders of photos are read; for every command that takes labelled data.
LAYOUT = ("class_from_name", "classes_at")

# Every command by its name: (function for Typer, heading).
REGISTERED: dict[str, tuple[Callable[..., None], str]] = {}


def command(group: str, *fields: Fields, name: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command, under one of ``GROUPS``; its name is the function's, with hyphens."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        REGISTERED[name or function.__name__.replace("_", "-")] = _expanded(function, fields), group
        return function

    return register


def _expanded(function: Callable[..., None], fields: tuple[Fields, ...]) -> Callable[..., None]:
    """``function`` with the fields' options among its parameters, as Typer reads them."""
    own = inspect.signature(function, eval_str=True).parameters
    wants_line = "line" in own
    parameters = [parameter.replace(kind=_BY_NAME) for name, parameter in own.items() if name != "line"]
    # What a command has of its own comes first, but for --json, which closes every list.
    place = next((index for index, one in enumerate(parameters) if one.name == "as_json"), len(parameters))
    made = [_parameter(name, part, of) for part in fields for name, of in part.options().items()]
    parameters[place:place] = made
    names = {parameter.name for parameter in made}

    @functools.wraps(function)
    def call(context: typer.Context, **given: Any) -> None:
        if wants_line:
            given["line"] = CommandLine(context, {name: given.pop(name) for name in names}, fields)
        function(**given)

    context = inspect.Parameter("context", _BY_NAME, annotation=typer.Context)
    call.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in [context, *parameters]}
    return call


_BY_NAME = inspect.Parameter.KEYWORD_ONLY


def _parameter(name: str, fields: Fields, of: tuple[Any, Option]) -> inspect.Parameter:
    field, option = of
    kind = typing.get_type_hints(fields.config)[name]
    flag = option.flag or f"--{name.replace('_', '-')}"
    default = field.default
    flags = [flag]
    if _is_list(kind):
        kind, default = (str, ",".join(map(str, default))) if default else (str | None, None)
    elif kind == (int | str):
        kind = str
    elif kind is bool and default:
        flags = [f"{flag}/--no-{flag[2:]}"]
    info = typer.Option(*flags, help=option.help, rich_help_panel=option.panel or fields.panel or None)
    return inspect.Parameter(name, _BY_NAME, default=default, annotation=Annotated[kind, info])


def field_option(config: type[Any], name: str) -> Any:
    """Typer's description of one field, for a parameter that a function declares itself."""
    made = _parameter(name, Fields(config), options_of(config)[name])
    return made.annotation.__metadata__[0]


def _is_list(kind: Any) -> bool:
    return any(typing.get_origin(part) is tuple for part in (kind, *_parts(kind)))


def _parts(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else ()


_NOUNS = {int: "whole numbers", float: "numbers", str: "words"}


def _parsed(flag: str, kind: Any, value: Any) -> Any:
    """The value of a field from what Typer made of it: lists come as text."""
    if kind == (int | str):
        return int(value) if value.lstrip("-").isdigit() else value
    if not _is_list(kind):
        return value
    if value is None:
        return None if type(None) in _parts(kind) else ()
    (origin,) = (part for part in (kind, *_parts(kind)) if typing.get_origin(part) is tuple)
    return listed(flag, value, typing.get_args(origin)[0])


def listed(flag: str, text: str, of: type[Any] = str) -> tuple[Any, ...]:
    """What stands between commas, as ``of``; "none" is the empty list.

    Raises: ConfigError that names the option for a word that is none.
    """
    words = [] if text.strip() == "none" else [word.strip() for word in text.split(",") if word.strip()]
    try:
        return tuple(of(word) for word in words)
    except ValueError:
        raise ConfigError(f"{flag} takes {_NOUNS[of]} with commas between", received=f"'{text}'") from None


def _name(parameter: Any) -> str:
    return parameter.opts[0] if parameter.param_type_name == "option" else (parameter.metavar or parameter.name.upper())
