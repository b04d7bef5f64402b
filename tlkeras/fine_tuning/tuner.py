"""The network while it is trained: a copy of a classifier's, with compiled steps, on one or several devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras.backbones.layers import blocks
from tlkeras.engines import features_of
from tlkeras.errors import ConfigError, OutOfMemoryError, unknown
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.optimiser import AdamW, block_factors, unfrozen_blocks
from tlkeras.trained import ClassifierConfig, build_network

Tensor = Any
EVALUATION_BATCH = 32


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
        for layer in _normalisations(self._head.layers):
            # The head is called in training mode for its dropout; its normalisations use their statistics all the same.
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
        for number, block in enumerate(self._blocks):
            for layer in _normalisations(block.layers):
                # Those of blocks that do not learn keep their statistics in any case.
                layer.trainable = number >= frozen
        with self.strategy.scope():
            self.optimiser = AdamW(variables, factors, weight_decay=config.weight_decay, clip_norm=config.clip_norm)
            # What never moves is not averaged: rounding would move it.
            self._moving = [*variables, *self._statistics()] if config.ema else []
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
        statistics = self.config.batch_statistics

        def gradients(pixels: Tensor, targets: Tensor) -> tuple[Tensor, list[Tensor]]:
            with tf.GradientTape() as tape:
                features = features_of(
                    lambda view: self._backbone(view, training=statistics), pixels, self.described.mirror
                )
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

    def _statistics(self) -> list[Any]:
        """The moving statistics of the blocks that learn, where they are to move."""
        if not self.config.batch_statistics:
            return []
        layers = _normalisations(
            [layer for block in self._blocks[len(self._blocks) - self.learning_count :] for layer in block.layers]
        )
        return [variable for layer in layers for variable in layer.non_trainable_weights]

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


def _normalisations(layers: Sequence[Any]) -> list[Any]:
    import keras

    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
