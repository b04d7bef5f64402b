"""The Keras network of a head from its description, as a saved classifier is rebuilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlkeras.heads.config import HeadConfig
from tlkeras.heads.mlp import build_linear, build_mlp

if TYPE_CHECKING:
    import keras


def build_head(config: HeadConfig, feature_size: int, class_count: int) -> keras.Model:
    """The untrained Keras network, features [N, feature_size] → logits [N, class_count], that ``config`` describes.

    Its last layer is a Dense called "logits"; layer names depend on the config alone.

    Raises:
        ConfigError: sizes below one feature or two classes.
    """
    if config.kind == "linear":
        return build_linear(feature_size, class_count)
    return build_mlp(config, feature_size, class_count)
