"""One description of every head, and of the search for one, in plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlkeras.errors import ConfigError, unknown
from tlkeras.options import HEAD, option

KINDS: tuple[str, ...] = ("linear", "mlp")
AUTO = "auto"


@dataclass(frozen=True)
class HeadConfig:
    """The architecture of a head in plain values.

    ``kind`` is "linear" or "mlp". The others describe an MLP's hidden layers and are ignored by a linear head:
    ``units`` per layer (each ≥ 1), ``dropout`` share in 0 ≤ p < 1, ``batch_norm`` after each hidden Dense.

    Raises:
        ConfigError: an unknown kind or a value out of range.
    """

    kind: str = option(
        "linear", "linear, mlp, or auto: the best of several within --budget-s.", panel=HEAD, flag="--head"
    )
    units: tuple[int, ...] = option((256,), "Hidden units of the mlp head, as 256 or 256,128.", panel=HEAD)
    dropout: float = option(0.3, "Dropout of the mlp head.", panel=HEAD)
    batch_norm: bool = option(True, "Batch normalisation in the mlp head.", panel=HEAD)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("head", self.kind, KINDS)
        # JSON gives lists back.
        object.__setattr__(self, "units", tuple(self.units))
        if self.kind == "mlp" and not self.units:
            raise ConfigError(
                "an MLP needs at least one hidden layer", received="none", next_step="Use kind 'linear' instead"
            )
        if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in self.units):
            raise ConfigError("hidden layers need whole numbers of units from 1", received=list(self.units))
        if not (math.isfinite(self.dropout) and 0 <= self.dropout < 1):
            raise ConfigError("dropout must be in 0 ≤ p < 1", received=self.dropout)


@dataclass(frozen=True)
class HeadSearch:
    """Ask for the best head that is found within ``budget_s`` seconds (above 0), instead of for a certain one.

    Raises:
        ConfigError: a budget that is no time.
    """

    kind: str = AUTO
    budget_s: float = option(120.0, "Seconds that --head auto may take.", panel=HEAD)

    def __post_init__(self) -> None:
        if self.kind != AUTO:
            raise unknown("head search", self.kind, (AUTO,))
        if not (math.isfinite(self.budget_s) and self.budget_s > 0):
            raise ConfigError("the head search needs a budget of more than 0 seconds", received=self.budget_s)


def head_from_json(values: Mapping[str, Any]) -> HeadConfig | HeadSearch:
    """What ``dataclasses.asdict`` made of a HeadConfig or a HeadSearch, as such again.

    Raises:
        ConfigError: an unknown kind or a value out of range.
    """
    return HeadSearch(**values) if values.get("kind") == AUTO else HeadConfig(**values)


def head_named(name: str, **options: Any) -> HeadConfig | HeadSearch:
    """The head that a user calls ``name``: "linear", "mlp" or "auto"; ``options`` are fields of either description.

    Raises:
        ConfigError: another name, or a value out of range.
    """
    if name == AUTO:
        return HeadSearch(**{key: value for key, value in options.items() if key == "budget_s"})
    if name not in KINDS:
        raise unknown("head", name, (*KINDS, AUTO))
    return HeadConfig(name, **{key: value for key, value in options.items() if key != "budget_s"})
