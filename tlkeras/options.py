"""Fields of a configuration that are options of the command line too: flag, default and help stand in the field."""

from __future__ import annotations

import dataclasses
from typing import Any

# Headings that options of several configurations share.
NETWORK = "Network"
DATA = "Data"
HEAD = "Head"

_KEY = "option"


@dataclasses.dataclass(frozen=True)
class Option:
    """What the command line says of a field.

    help: one line. panel: the heading under which the help lists it; none puts it among the general ones. flag: its
    name on the command line, where that is not ``--field-name``.
    """

    help: str
    panel: str = ""
    flag: str = ""


def option(default: Any, help: str, *, panel: str = "", flag: str = "") -> Any:
    """A dataclass field with a default that the command line offers as an option; see :class:`Option`."""
    return dataclasses.field(default=default, metadata={_KEY: Option(help, panel, flag)})


def options_of(config: type[Any]) -> dict[str, tuple[dataclasses.Field[Any], Option]]:
    """The fields of a dataclass that are options, by name, in its order."""
    return {field.name: (field, field.metadata[_KEY]) for field in dataclasses.fields(config) if _KEY in field.metadata}
