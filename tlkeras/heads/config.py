"""One description of every head, in plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tlkeras.errors import ConfigError, unknown

KINDS: tuple[str, ...] = ("linear", "mlp")


@dataclass(frozen=True)
class HeadConfig:
    """The architecture of a head in plain values.

    ``kind`` is "linear" or "mlp". The others describe an MLP's hidden layers and are ignored by a linear head:
    ``units`` per layer (each ≥ 1), ``dropout`` share in 0 ≤ p < 1, ``batch_norm`` after each hidden Dense.

    Raises:
        ConfigError: an unknown kind or a value out of range.
    """

    kind: str = "linear"
    units: tuple[int, ...] = (256,)
    dropout: float = 0.3
    batch_norm: bool = True

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
