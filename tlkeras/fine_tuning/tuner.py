"""The network while it is trained: a copy of a classifier's, with compiled steps, on one or several devices; its AdamW.

Every block has its own rate, which Keras' optimisers do not have (``tlkeras.adam``). A schedule's position is the
number of the step, so that a resumed run has the very rate of one that was never stopped.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras.adam import BETA_2, adam
from tlkeras.backbones.layers import blocks
from tlkeras.engines import features_of
from tlkeras.errors import ConfigError, OutOfMemoryError, unknown
from tlkeras.fine_tuning.config import ALL, FineTuneConfig
from tlkeras.trained import ClassifierConfig, build_network

Tensor = Any
EVALUATION_BATCH = 32
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


class Tuner:
    """Trains the copy of a network and measures it.

    ``weights``: those to start from, in the order of the Keras network's ``weights``. Whoever holds the original
    keeps it unchanged.

    Raises: ConfigError for devices that are not there, or mixed precision where no GPU has it.
    """

    def __init__(
        self, described: ClassifierConfig, weights: Sequence[np.ndarray], config: FineTuneConfig, seed: int
    ) -> None:
        import keras

        check_devices(config)
        self.config = config
        self.described = described
        self.strategy = _strategy(config.devices)
        keras.utils.set_random_seed(seed)  # for dropout in the head
        with self.strategy.scope(), _precision(config.mixed_precision):
            self.network = build_network(described)
        self.set_weights(weights)
        self._backbone, self._head = (self.network.get_layer(name) for name in ("backbone", "head"))
        self._blocks = blocks(self._backbone)
        for layer in self._head.layers:
            # The head is called in training mode for its dropout; its normalisations use their statistics all the same.
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        trainable = {id(variable) for variable in self._backbone.trainable_weights}
        # How many of the last blocks learn.
        self.learning_count = unfrozen_blocks(len(self._blocks), config)
        frozen = len(self._blocks) - self.learning_count
        variables, factors = list(self._head.trainable_weights), [1.0] * len(self._head.trainable_weights)
        for block, factor in list(zip(self._blocks, block_factors(len(self._blocks), config), strict=True))[frozen:]:
            learning = [variable for variable in block.variables if id(variable) in trainable]
            variables += learning
            factors += [factor] * len(learning)
        with self.strategy.scope():
            self.optimiser = AdamW(variables, factors, weight_decay=config.weight_decay, clip_norm=config.clip_norm)
            # What never moves is not averaged: rounding would move it.
            self._moving = variables if config.ema else []
            self._averages = [tf.Variable(variable.numpy(), trainable=False) for variable in self._moving]
        self._step = self._compiled()
        size = described.size_px
        self._forward = tf.function(
            lambda pixels: tf.cast(self.network(pixels, training=False), tf.float32),
            input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32)],
        )
        self._features = tf.function(
            lambda pixels: tf.cast(
                features_of(lambda view: self._backbone(view, training=False), pixels, described.mirror), tf.float32
            ),
            input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32)],
        )

    @property
    def state(self) -> list[Any]:
        """Every variable that the next step depends on, always in the same order."""
        return [*self.network.variables, *self.optimiser.slots, *self._averages]

    @property
    def weights(self) -> list[np.ndarray]:
        """The network's weights now."""
        return [variable.numpy() for variable in self.network.weights]

    @property
    def averages(self) -> list[np.ndarray]:
        """The averaged weights now, in the order of ``weights``."""
        averaged = {id(variable): average for variable, average in zip(self._moving, self._averages, strict=True)}
        return [averaged.get(id(variable), variable).numpy() for variable in self.network.weights]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Give the network other weights."""
        for variable, value in zip(self.network.weights, weights, strict=True):
            variable.assign(value)

    def step(self, pixels: Tensor, targets: Tensor, *, rate: float, decay: float) -> float:
        """Train on one batch; returns its loss in nats, which is NaN or infinite when the step went wrong.

        ``pixels``: float32 ``[B, S, S, 3]`` in 0..255; ``targets``: float32 ``[B, K]``, rows that sum to 1.
        ``decay``: of the averaged weights.

        Raises: OutOfMemoryError.
        """
        replicas = self.strategy.num_replicas_in_sync
        if replicas > 1:
            pixels, targets = (self._shared(tf.split(whole, replicas)) for whole in (pixels, targets))
        try:
            loss, length = self._step(pixels, targets, tf.constant(rate), tf.constant(decay))
            return float(loss) if np.isfinite(length) else float("nan")
        except tf.errors.ResourceExhaustedError:
            raise self._out_of_memory() from None

    def logits(self, squares: np.ndarray) -> np.ndarray:
        """Logits float32 ``[N, K]`` of squares ``[N, S, S, 3]`` in 0..255, with the weights of now."""
        return _in_batches(self._forward, squares)

    def features(self, squares: np.ndarray) -> np.ndarray:
        """What the head is given, float32 ``[N, D]``, for squares ``[N, S, S, 3]`` in 0..255."""
        return _in_batches(self._features, squares)

    def _compiled(self) -> Any:
        variables = self.optimiser.variables
        smoothing = self.config.label_smoothing

        def gradients(pixels: Tensor, targets: Tensor) -> tuple[Tensor, list[Tensor]]:
            with tf.GradientTape() as tape:
                # Normalisations keep the statistics of the pretraining: those of small batches spoil fine-tuning.
                features = features_of(lambda view: self._backbone(view, training=False), pixels, self.described.mirror)
                logits = tf.cast(self._head(features, training=True), tf.float32)
                smooth = targets * (1.0 - smoothing) + smoothing / targets.shape[1]
                # Divided by the whole batch: sums over devices are then what one device would have got.
                share = tf.cast(tf.shape(targets)[0] * self.strategy.num_replicas_in_sync, tf.float32)
                loss = tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(smooth, logits)) / share
            found = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return loss, found

        def together(value: Tensor) -> Tensor:
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

        @tf.function(reduce_retracing=True)
        def step(pixels: Tensor, targets: Tensor, rate: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
            loss, found = self.strategy.run(gradients, args=(pixels, targets))
            length = self.optimiser.apply([together(gradient) for gradient in found], rate)
            for average, variable in zip(self._averages, self._moving, strict=True):
                average.assign(decay * average + (1.0 - decay) * tf.convert_to_tensor(variable))
            return together(loss), length

        return step

    def _shared(self, shares: Sequence[Tensor]) -> Any:
        """One share a device."""
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: shares[context.replica_id_in_sync_group]
        )

    def _out_of_memory(self) -> OutOfMemoryError:
        size = self.config.batch_size
        smaller = max(size // 2, len(self.config.devices), 1)
        step = f"Start again with --batch-size {smaller}."
        if smaller >= size:
            step = "Start again with a smaller --size, a smaller --backbone, or fewer blocks (--unfreeze)."
        return OutOfMemoryError(f"the memory does not hold batches of {size}", next_step=step)


def _in_batches(function: Any, squares: np.ndarray) -> np.ndarray:
    parts = [
        function(np.asarray(squares[at : at + EVALUATION_BATCH], np.float32)).numpy()
        for at in range(0, len(squares), EVALUATION_BATCH)
    ]
    return np.concatenate(parts)


def check_devices(config: FineTuneConfig) -> None:
    """Raise ConfigError for a device that is not there, or mixed precision without a GPU that has it."""
    known = {name.removeprefix("/device:").lower() for name in _logical_devices()}
    for name in config.devices:
        if name.lower() not in known:
            raise unknown("device", name, sorted(known))
    if config.mixed_precision and not _has_bfloat16():
        raise ConfigError(
            "mixed precision needs a GPU of compute capability 8.0 or more; on a CPU it is slower",
            next_step="Leave out --mixed-precision.",
        )


def _logical_devices() -> list[str]:
    return [device.name for device in tf.config.list_logical_devices() if device.device_type in ("CPU", "GPU", "TPU")]


def _has_bfloat16() -> bool:
    found = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return bool(found) and all(details.get("compute_capability", (0, 0)) >= (8, 0) for details in found)


def _strategy(devices: Sequence[str]) -> Any:
    if not devices:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([f"/{name.lower()}" for name in devices])


@contextlib.contextmanager
def _precision(mixed: bool) -> Iterator[None]:
    import keras

    before = keras.config.dtype_policy()
    if mixed:
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
