"""One description of every head, from which its Keras network is rebuilt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tlkeras.errors import ConfigError, unknown

if TYPE_CHECKING:
    import keras

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


def build_head(config: HeadConfig, feature_size: int, class_count: int) -> keras.Model:
    """The untrained Keras network, features [N, feature_size] → logits [N, class_count], that ``config`` describes.

    Its last layer is a Dense called "logits"; layer names depend on the config alone.

    Raises:
        ConfigError: sizes below one feature or two classes.
    """
    from tlkeras.heads.mlp import build_linear, build_mlp

    if config.kind == "linear":
        return build_linear(feature_size, class_count)
    return build_mlp(config, feature_size, class_count)
