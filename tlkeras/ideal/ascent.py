"""The one loop that improves images by gradient ascent: compiled, several steps a call, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras.adam import adam
from tlkeras.backbones.layers import with_layers
from tlkeras.ideal.objectives import Objective, Seen
from tlkeras.ideal.parameterisation import Parameterisation, Transforms
from tlkeras.target import Target

Tensor = Any

ADAM = "adam"
GRADIENT = "gradient"
_BETA_2 = 0.99
_FINAL_RATE = 0.05  # of the first rate


@dataclass(frozen=True)
class Ascent:
    """How images climb.

    rule: "adam" (Kingma and Ba 2015), or "gradient": along the gradient, divided by its root mean square in
    each image. rate: the step size in the parameterisation's own units. It falls along a cosine over the
    last ``cooling`` share of the steps, so that the end is not decided by the last random transform.
    """

    rule: str
    rate: float
    steps: int
    cooling: float = 0.5

    def rate_at(self, step: Tensor) -> Tensor:
        """The step size of one step (an int32 tensor)."""
        part = (tf.cast(step, tf.float32) + 1.0) / self.steps
        cold = tf.clip_by_value((part - (1.0 - self.cooling)) / max(self.cooling, 1e-6), 0.0, 1.0)
        return self.rate * (_FINAL_RATE + (1.0 - _FINAL_RATE) * 0.5 * (1.0 + tf.cos(math.pi * cold)))


class Climb:
    """Images on their way up: ``start`` a batch, then ``advance`` takes it some steps further.

    window_px: the side of what the network sees of an image in one step; the image's own where the network takes
    no other. Compiled once for all batches of one size.
    """

    def __init__(
        self,
        target: Target,
        objective: Objective,
        parameterisation: Parameterisation,
        transforms: Transforms,
        ascent: Ascent,
    ) -> None:
        self._size_px = target.size_px
        self._parameterisation = parameterisation
        self.step = 0
        network = with_layers(target.network, objective.layers) if objective.layers else None
        if not _takes(target.network, transforms.window_px(target.size_px)):
            transforms = replace(transforms, window=1.0)
        self.window_px = transforms.window_px(target.size_px)

        def value_of(numbers: Tensor, step: Tensor, classes: Tensor, seed: Tensor) -> Tensor:
            image = parameterisation.image(numbers)
            changed = transforms(image, tf.stack([seed, 8 * step]))
            if network is None:
                return objective(Seen(image, target.logits(changed), classes, {}))
            outputs = dict(network(changed, training=False))
            return objective(Seen(image, outputs.pop(""), classes, outputs))

        def one_step(state: tuple[Tensor, ...], step: Tensor, classes: Tensor, seed: Tensor) -> tuple[Any, Tensor]:
            numbers, mean, square = state
            with tf.GradientTape() as tape:
                tape.watch(numbers)
                value = value_of(numbers, step, classes, seed)
            gradient = tape.gradient(value, numbers)
            rate = ascent.rate_at(step)
            if ascent.rule == ADAM:
                direction, mean, square = adam(
                    gradient, mean, square, tf.cast(step, tf.float32) + 1.0, 1e-12, beta_2=_BETA_2
                )
                numbers += rate * direction
            else:
                axes = list(range(1, gradient.shape.rank))
                size = tf.sqrt(tf.reduce_mean(tf.square(gradient), axis=axes, keepdims=True))
                numbers += rate * gradient / (size + 1e-12)
            return (parameterisation.allowed(numbers), mean, square), value

        # Written out instead of translated from Python, so that objectives of any class can be called inside.
        @tf.function(autograph=False, reduce_retracing=True)
        def advance(first: Tensor, steps: Tensor, state: Any, classes: Tensor, seed: Tensor) -> tuple[Any, Tensor]:
            def body(index: Tensor, state: Any, values: Any) -> tuple[Tensor, Any, Any]:
                state, value = one_step(state, first + index, classes, seed)
                return index + 1, state, values.write(index, value)

            values = tf.TensorArray(tf.float32, steps, element_shape=[None])
            start = (tf.constant(0), state, values)
            _, state, values = tf.while_loop(lambda index, *_: index < steps, body, start, parallel_iterations=1)
            return state, values.stack()

        self._advance = advance

    def start(self, seeds: Sequence[int], classes: Sequence[int]) -> None:
        """Begin with a batch of noise images, one for each seed; ``classes``: what each one is to become.

        An objective without a class takes no notice of ``classes``.
        """
        numbers = self._parameterisation.start(seeds, self._size_px)
        self._state = (numbers, tf.zeros_like(numbers), tf.zeros_like(numbers))
        self._classes = tf.constant(list(classes), tf.int32)
        self._seed = tf.constant(seeds[0], tf.int32)
        self.step = 0

    def advance(self, steps: int) -> np.ndarray:
        """Climb ``steps`` further; returns the objective's values before each, float32 ``[steps, N]``."""
        self._state, values = self._advance(
            tf.constant(self.step), tf.constant(steps), self._state, self._classes, self._seed
        )
        self.step += steps
        return values.numpy()

    def pixels(self) -> np.ndarray:
        """The images as they are now: float32 ``[N, S, S, 3]`` in 0..255."""
        return self._parameterisation.image(self._state[0]).numpy()


def _takes(network: Any, size_px: int) -> bool:
    """Whether a network can be asked about images of another size than its own."""
    if network.input_shape[1] is not None:
        return network.input_shape[1] == size_px
    import keras

    try:
        network.compute_output_spec(keras.KerasTensor((1, size_px, size_px, 3)))
    # Each kind of layer has its own way to say that maps do not fit.
    except Exception:
        return False
    return True


def rounded(pixels: np.ndarray) -> np.ndarray:
    """Pixels in 0..255 as a file holds them: uint8."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
