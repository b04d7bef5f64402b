"""AdamW for fine-tuning: rates over steps and blocks, a decay that spares norms, a state that can be saved.

Every block has its own rate, which Keras' optimisers do not have (``tlkeras.adam``). A schedule's position is the
number of the step, so that a resumed run has the very rate of one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tlkeras.adam import BETA_2, adam
from tlkeras.fine_tuning.config import ALL, FineTuneConfig

Tensor = Any

_EPSILON = 1e-7
# Cosine ends at this share of the highest rate.
FLOOR = 0.01


def rate_at(step: int, steps: int, config: FineTuneConfig) -> float:
    """The learning rate of a step, ``0 ≤ step < steps``: linear warm-up, then half a cosine.

    Loshchilov & Hutter 2017, "SGDR".
    """
    rising = math.ceil(config.warmup * steps)
    if step < rising:
        return config.learning_rate * (step + 1) / (rising + 1)
    through = (step - rising) / max(steps - rising - 1, 1)
    return config.learning_rate * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * through)) / 2)


def unfrozen_blocks(block_count: int, config: FineTuneConfig) -> int:
    """How many of the last blocks are trained."""
    return block_count if config.unfreeze == ALL else min(int(config.unfreeze), block_count)


def block_factors(block_count: int, config: FineTuneConfig) -> tuple[float, ...]:
    """What the rate is multiplied with in each block, the one at the pixels first; the last block's factor is 1."""
    return tuple(config.rate_decay ** (block_count - 1 - index) for index in range(block_count))


def ema_decay(step: int, config: FineTuneConfig) -> float:
    """The decay of the averaged weights after a step: it grows to ``config.ema``, to forget the start soon."""
    return min(config.ema, (1 + step) / (10 + step))


class AdamW:
    """Updates variables in place (Loshchilov & Hutter 2019, as Keras computes it); ``slots`` is all that it remembers.

    ``variables``: Keras variables. ``factors``: one a variable, what the rate is multiplied with.
    Matrices and kernels decay, decoupled from the gradient; vectors (norms, biases) do not.
    Make it, and call it, outside of replicas: gradients are sums over all of them.
    """

    def __init__(
        self, variables: Sequence[Any], factors: Sequence[float], *, weight_decay: float, clip_norm: float
    ) -> None:
        self.variables = list(variables)
        self.clip_norm = clip_norm
        self._factors = factors
        self._decays = [weight_decay if len(variable.shape) > 1 else 0.0 for variable in variables]
        self._means, self._squares = (
            [tf.Variable(tf.zeros(variable.shape), trainable=False) for variable in variables] for _ in range(2)
        )
        self._step = tf.Variable(0.0, trainable=False)

    @property
    def slots(self) -> list[Any]:
        """All TensorFlow variables of the state, always in the same order."""
        return [*self._means, *self._squares, self._step]

    def apply(self, gradients: Sequence[Tensor], rate: Tensor) -> Tensor:
        """One step; returns the length of the gradient, float32, before it was clipped."""
        length = tf.linalg.global_norm(gradients)
        shortening = tf.minimum(1.0, self.clip_norm / tf.maximum(length, 1e-12)) if self.clip_norm else 1.0
        step = self._step.assign_add(1.0)
        # Keras adds it to the root before that is corrected for its start.
        guard = _EPSILON / tf.sqrt(1.0 - BETA_2**step)
        for variable, gradient, mean, square, factor, decay in zip(
            self.variables, gradients, self._means, self._squares, self._factors, self._decays, strict=True
        ):
            value = tf.convert_to_tensor(variable)
            if decay:
                value -= value * decay * rate * factor
            direction, new_mean, new_square = adam(gradient * shortening, mean, square, step, guard)
            mean.assign(new_mean)
            square.assign(new_square)
            variable.assign(value - rate * factor * direction)
        return length
