"""AdamW and SGD for fine-tuning: a rate for each block, a decay that spares norms, a state that can be saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

Tensor = Any

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


class Optimiser:
    """Updates variables in place; everything that it remembers is in ``slots``.

    ``variables``: Keras variables. ``factors``: one a variable, what the rate is multiplied with.
    kind: ``adamw`` (Loshchilov & Hutter 2019, as Keras computes it) or ``sgd`` with Nesterov momentum.
    Matrices and kernels decay, in both kinds decoupled from the gradient; vectors (norms, biases) do not.
    Make it, and call it, outside of replicas: gradients are sums over all of them.
    """

    def __init__(
        self,
        variables: Sequence[Any],
        factors: Sequence[float],
        *,
        kind: str,
        momentum: float,
        weight_decay: float,
        clip_norm: float,
    ) -> None:
        self.kind = kind
        self.momentum = momentum
        self.clip_norm = clip_norm
        self._factor = {id(variable): factor for variable, factor in zip(variables, factors, strict=True)}
        self._decay = {id(variable): weight_decay if len(variable.shape) > 1 else 0.0 for variable in variables}
        self._slots = {
            id(variable): [tf.Variable(tf.zeros(variable.shape), trainable=False) for _ in range(self._slot_count)]
            for variable in variables
        }
        # Each variable counts its own steps: one that joins late is corrected as if it had started then.
        self._steps = {id(variable): tf.Variable(0.0, trainable=False) for variable in variables}

    @property
    def _slot_count(self) -> int:
        return 2 if self.kind == "adamw" else 1

    @property
    def slots(self) -> list[Any]:
        """All TensorFlow variables of the state, always in the same order."""
        return [slot for key, slots in self._slots.items() for slot in (*slots, self._steps[key])]

    def apply(self, variables: Sequence[Any], gradients: Sequence[Tensor], rate: Tensor) -> Tensor:
        """One step for some of the variables; returns the length of the gradient, float32, before it was clipped."""
        length = tf.linalg.global_norm(gradients)
        shortening = tf.minimum(1.0, self.clip_norm / tf.maximum(length, 1e-12)) if self.clip_norm else 1.0
        for variable, gradient in zip(variables, gradients, strict=True):
            self._update(variable, gradient * shortening, rate * self._factor[id(variable)])
        return length

    def _update(self, variable: Any, gradient: Tensor, rate: Tensor) -> None:
        key = id(variable)
        value = tf.convert_to_tensor(variable)
        if self._decay[key]:
            value -= value * self._decay[key] * rate
        if self.kind == "adamw":
            mean, square = self._slots[key]
            step = self._steps[key] + 1.0
            self._steps[key].assign(step)
            new_mean = mean + (gradient - mean) * (1.0 - _BETA_1)
            new_square = square + (tf.square(gradient) - square) * (1.0 - _BETA_2)
            corrected = rate * tf.sqrt(1.0 - tf.pow(_BETA_2, step)) / (1.0 - tf.pow(_BETA_1, step))
            mean.assign(new_mean)
            square.assign(new_square)
            variable.assign(value - corrected * new_mean / (tf.sqrt(new_square) + _EPSILON))
            return
        (speed,) = self._slots[key]
        new_speed = self.momentum * speed - rate * gradient
        speed.assign(new_speed)
        variable.assign(value + self.momentum * new_speed - rate * gradient)
