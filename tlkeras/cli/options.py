"""Fields of configurations as options of a command: what Typer is told of them, and what is made of the text typed."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from tlkeras.errors import ConfigError
from tlkeras.options import Option, options_of

# Fields that say how folders of photos are read; for every command that takes labelled data.
LAYOUT = ("class_from_name", "classes_at")

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


def field_option(config: type[Any], name: str) -> Any:
    """Typer's description of one field, for a parameter that a function declares itself."""
    (parameter,) = Fields(config, only=(name,)).parameters()
    return parameter.annotation.__metadata__[0]


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
