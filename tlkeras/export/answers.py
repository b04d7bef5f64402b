"""What an exported classifier answers, as TensorFlow operations: the same for every format."""

from __future__ import annotations

from typing import Any

from tlkeras.engines import features_of
from tlkeras.errors import ConfigError
from tlkeras.trained import TrainedClassifier

OUTPUTS = ("probabilities", "class_indices", "scores", "logits", "features")


def answers(trained: TrainedClassifier, fitted: Any, top_k: int) -> dict[str, Any]:
    """The outputs by the names in ``OUTPUTS``, in that order.

    ``fitted``: float32 ``[N, S, S, 3]`` in 0..255. Returns ``probabilities`` float32 ``[N, C]``, calibrated;
    ``class_indices`` int32 ``[N, top_k]``, the most probable class first, and their ``scores`` float32
    ``[N, top_k]``; ``logits`` float32 ``[N, C]``; ``features`` float32 ``[N, D]``, what the head saw.
    """
    import tensorflow as tf

    backbone = trained.network.get_layer("backbone")
    features = features_of(lambda pixels: backbone(pixels, training=False), fitted, trained.config.mirror)
    logits = trained.head(features, training=False)
    probabilities = tf.nn.softmax(logits / trained.config.temperature)
    scores, indices = tf.math.top_k(probabilities, top_k)
    return dict(zip(OUTPUTS, (probabilities, tf.cast(indices, tf.int32), scores, logits, features), strict=True))


def check_top_k(top_k: int, classes: int) -> None:
    """Raise ConfigError unless ``top_k`` lies in 1..``classes``."""
    if not 1 <= top_k <= classes:
        raise ConfigError(f"top_k must lie in 1..{classes}, the number of classes", received=top_k)
