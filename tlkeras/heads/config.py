"""One description of every head, and of the search for one, in plain values; and the Keras networks made from it.

Nothing is imported before a network is built: the command line reads the fields for its options and help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlkeras.errors import ConfigError, unknown
from tlkeras.options import HEAD, option

if TYPE_CHECKING:
    import keras
    import numpy as np

KINDS: tuple[str, ...] = ("linear", "mlp")
AUTO = "auto"
# Whether every class counts the same in a linear head.
BALANCES: tuple[str, ...] = ("auto", "none", "classes")


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


def build_head(config: HeadConfig, feature_size: int, class_count: int) -> keras.Model:
    """The untrained Keras network, features [N, feature_size] → logits [N, class_count], that ``config`` describes.

    Its last layer is a Dense called "logits"; layer names depend on the config alone.

    Raises:
        ConfigError: sizes below one feature or two classes.
    """
    if config.kind == "linear":
        return build_linear(feature_size, class_count)
    return build_mlp(config, feature_size, class_count)


def head_layout(config: HeadConfig, feature_size: int, class_count: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a head's weights, in the order of its Keras network's, by the names that a file gives them."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    size = feature_size
    if config.kind == "mlp":
        shapes += [("moving_mean", (size,)), ("moving_variance", (size,))]
        normalised = ("gamma", "beta", "moving_mean", "moving_variance")
        for units in config.units:
            shapes += [("kernel", (size, units))]
            shapes += [(name, (units,)) for name in (normalised if config.batch_norm else ("bias",))]
            size = units
    shapes += [("kernel", (size, class_count)), ("bias", (class_count,))]
    return {f"{index:04d}.{name}": shape for index, (name, shape) in enumerate(shapes)}


def build_linear(feature_size: int, class_count: int) -> keras.Model:
    """The Keras network of a linear head, [N, feature_size] → logits [N, class_count].

    Layers: "unit_length", which does what ``tlkeras.heads.linear.unit_rows`` does, and the Dense "logits".

    Raises:
        ConfigError: sizes below one feature or two classes.
    """
    import keras

    _check_sizes(feature_size, class_count)
    features = keras.Input((feature_size,), name="features")
    directions = keras.layers.UnitNormalization(name="unit_length")(features)
    return keras.Model(features, keras.layers.Dense(class_count, name="logits")(directions), name="linear_head")


def build_mlp(
    config: HeadConfig,
    feature_size: int,
    class_count: int,
    *,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
) -> keras.Model:
    """The Keras network of an MLP head, [N, feature_size] → logits [N, class_count].

    Layers: "standardise" (a batch normalisation without trainable weights, whose stored statistics are those of the
    training features: ``mean`` and ``variance`` [feature_size], 0 and 1 when left out), then per hidden layer
    "dense_i", "batch_norm_i", "relu_i", "dropout_i", and "logits".

    Raises:
        ConfigError: sizes below one feature or two classes, or a config that is not an MLP's.
    """
    import keras

    _check_sizes(feature_size, class_count)
    if config.kind != "mlp":
        raise ConfigError("an MLP is built from a config of kind 'mlp'", received=config.kind)
    # An ordinary layer whose statistics are plain weights, so they are saved and loaded like all others.
    standardise = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-6, trainable=False, name="standardise"
    )
    features = keras.Input((feature_size,), name="features")
    x = standardise(features)
    for i, units in enumerate(config.units, start=1):
        x = keras.layers.Dense(units, use_bias=not config.batch_norm, name=f"dense_{i}")(x)
        if config.batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"batch_norm_{i}")(x)
        x = keras.layers.ReLU(name=f"relu_{i}")(x)
        if config.dropout:
            x = keras.layers.Dropout(config.dropout, name=f"dropout_{i}")(x)
    model = keras.Model(features, keras.layers.Dense(class_count, name="logits")(x), name="mlp_head")
    if mean is not None and variance is not None:
        standardise.set_weights([mean, variance])
    return model


def head_logits(head: keras.Model, features: np.ndarray, batch_size: int = 4096) -> np.ndarray:
    """Logits float32 ``[N, K]`` of a Keras head for features ``[N, D]``, in inference mode."""
    import numpy as np

    parts = [head(features[at : at + batch_size], training=False) for at in range(0, len(features), batch_size)]
    return np.concatenate([np.asarray(part) for part in parts])


def _check_sizes(feature_size: int, class_count: int) -> None:
    if feature_size < 1 or class_count < 2:
        raise ConfigError(
            "a head needs at least one feature and two classes",
            received=f"{feature_size} features and {class_count} classes",
        )
