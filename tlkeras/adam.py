"""Adam's arithmetic (Kingma & Ba 2015, algorithm 1), once for all who cannot use a Keras optimiser.

That one wants variables, one rate for all of them, and a call for each step. Fine-tuning has a rate for each block, the
attack of Carlini and Wagner one for each image, and ideal images are climbed inside a compiled loop without variables.
"""

from __future__ import annotations

from typing import Any

Tensor = Any

BETA_1, BETA_2 = 0.9, 0.999


def adam(
    gradient: Tensor, mean: Tensor, square: Tensor, step: Any, guard: Any, *, beta_2: float = BETA_2
) -> tuple[Tensor, Tensor, Tensor]:
    """Where a step goes, to be multiplied with the rate, and the moving averages after it; all of one shape, float32.

    ``mean``, ``square``: the moving averages of gradients and of their squares before the step, zeros before the first.
    ``step``: its number, from 1. ``guard``: against division by zero, added to the root of the mean square.
    ``beta_2``: how much of the mean square is remembered a step.
    """
    import tensorflow as tf

    mean = BETA_1 * mean + (1.0 - BETA_1) * gradient
    square = beta_2 * square + (1.0 - beta_2) * tf.square(gradient)
    fair_mean, fair_square = mean / (1.0 - BETA_1**step), square / (1.0 - beta_2**step)
    return fair_mean / (tf.sqrt(fair_square) + guard), mean, square
