"""A network whose weights are constants of the graph that it is traced into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# A graph holds less than 2 GB, and its constants are copied more than once while it is made ready.
MOST_BYTES = 200_000_000


def with_constants(network: Any) -> Callable[[Any], Any]:
    """``network`` at inference, as a function of pixels for use inside ``tf.function``.

    TensorFlow knows that constants stay the same, and lays out filters for oneDNN once instead of in every step; with
    one image at a time that is 5 to 10 % of a step. What the network learns after the tracing is not seen. A network
    of more than ``MOST_BYTES`` keeps its variables.
    """
    import tensorflow as tf

    learned, others = (
        [variable.numpy() for variable in variables]
        for variables in (network.trainable_variables, network.non_trainable_variables)
    )
    if sum(value.nbytes for value in (*learned, *others)) > MOST_BYTES:
        return lambda pixels: network(pixels, training=False)

    def call(pixels: Any) -> Any:
        constants = [[tf.constant(value) for value in values] for values in (learned, others)]
        outputs, _ = network.stateless_call(*constants, pixels, training=False)
        return outputs

    return call
