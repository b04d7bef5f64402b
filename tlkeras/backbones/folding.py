"""Batch normalisation folded into the convolution before it: the same function, less work forward and backward.

At inference a batch normalisation multiplies by a constant and adds one, so it can become part of the weights
and the bias of the convolution that it follows (Jacob et al. 2018, "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", section 3.2). Convolution, bias and activation are then one
operation, and the way back skips a pass over the largest arrays. Pointwise convolutions get a way back that is a
convolution too, which is quicker than what TensorFlow takes for it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

# Largest difference of outputs over the largest output. Rounding alone makes 1e-6, in deep networks up to 1e-4.
_TOLERANCE = 1e-3


def fold_batch_norm(network: Any) -> Any:
    """A copy of a Keras model in which every foldable batch normalisation is part of its convolution.

    ``network``: any functional model with one image input ``[N, H, W, 3]`` and one output, models nested in it
    included; it is not changed. The copy computes the same at inference (``training=False``), up to rounding, and
    is not meant for training: gradients of its input are all that it gives, see ``frozen_pointwise``. It takes
    images of any size where its layers allow that; its input shape then has None for H and W. A network that
    cannot be copied, or whose copy does not give the same answer on a random image, is returned itself.
    """
    probe = np.random.default_rng(0).uniform(0, 255, (1, *network.input_shape[1:])).astype(np.float32)
    expected = network(probe, training=False).numpy()
    for any_size in (True, False):
        try:
            folded = _fold(network, any_size)
            got = folded(probe, training=False).numpy()
        # Layers may refuse a size or to be copied in ways of their own; the network itself always works.
        except Exception:
            continue
        if np.abs(got - expected).max() <= _TOLERANCE * max(float(np.abs(expected).max()), 1e-30):
            return folded
    return network


def _fold(network: Any, any_size: bool) -> Any:
    import keras

    norm_of = _foldable(network)
    norms = {norm.name for norm in norm_of.values()}
    copies: dict[str, Any] = {}

    def copy(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            made = _fold(layer, any_size)
            made.name = layer.name
        else:
            config = layer.get_config()
            if layer.name in norm_of:
                config["use_bias"] = True
            quick = is_pointwise(layer) and config["use_bias"]
            made = (frozen_pointwise() if quick else type(layer)).from_config(config)
        copies[layer.name] = made
        return made

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        return arguments[0] if layer.name in norms else layer(*arguments, **options)

    shape = (None, None, 3) if any_size else network.input_shape[1:]
    pixels = keras.Input(shape, name=network.inputs[0].name)
    folded = keras.models.clone_model(network, input_tensors=pixels, clone_function=copy, call_function=call)
    for layer in network.layers:
        if layer.name not in copies or layer.name in norms or isinstance(layer, keras.Model):
            continue
        if layer.name in norm_of:
            copies[layer.name].set_weights(_folded_weights(layer, norm_of[layer.name]))
        elif layer.weights:
            copies[layer.name].set_weights(layer.get_weights())
    return folded


def _foldable(network: Any) -> dict[str, Any]:
    """Convolutions by name, each with the batch normalisation that alone reads its output."""
    import keras

    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    readers: dict[str, list[Any]] = {}
    for operation in network.operations:  # more than layers: a plain addition reads as well
        for node in operation._inbound_nodes:
            for tensor in node.input_tensors:
                readers.setdefault(tensor._keras_history[0].name, []).append(operation)
    outputs = {tensor._keras_history[0].name for tensor in network.outputs}
    found = {}
    for layer in network.layers:
        reading = readers.get(layer.name, [])
        if isinstance(layer, kinds) and len(reading) == 1 and layer.name not in outputs:
            norm = reading[0]
            linear = layer.activation is None or layer.activation is keras.activations.linear
            if isinstance(norm, keras.layers.BatchNormalization) and linear and len(norm._inbound_nodes) == 1:
                found[layer.name] = norm
    return found


def _folded_weights(convolution: Any, norm: Any) -> list[np.ndarray]:
    kernel, *bias = convolution.get_weights()
    scale = 1.0 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * norm.gamma.numpy()
    shift = 0.0 if norm.beta is None else norm.beta.numpy()
    # A depthwise kernel is [h, w, channels, multiplier]; its outputs are the last two together.
    folded = kernel * scale.reshape(kernel.shape[2:] if _is_depthwise(convolution) else (-1,))
    return [folded, ((bias[0] if bias else 0.0) - norm.moving_mean.numpy()) * scale + shift]


def _is_depthwise(convolution: Any) -> bool:
    import keras

    return isinstance(convolution, keras.layers.DepthwiseConv2D)


@functools.cache
def frozen_pointwise() -> type[Any]:
    """The layer's class, made at first use so that Keras is imported only then."""
    import keras
    import tensorflow as tf

    class FrozenPointwise(keras.layers.Conv2D):
        """A 1 × 1 convolution with stride 1 and a bias that gives gradients of its input, none of its weights.

        The gradient is the convolution of what comes back with the transposed kernel, which is kept beside the
        kernel. TensorFlow's own ``Conv2DBackpropInput`` orders the kernel anew in each step: with one image and the
        wide, small maps at a network's end that takes longer than the arithmetic.
        """

        def build(self, input_shape: Any) -> None:
            super().build(input_shape)
            shape = (1, 1, self.kernel.shape[3], self.kernel.shape[2])
            self.transposed = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="transposed")

        def set_weights(self, weights: list[np.ndarray]) -> None:
            """Kernel ``[1, 1, C, D]`` and bias ``[D]``."""
            super().set_weights([*weights, weights[0].swapaxes(2, 3)])

        def call(self, maps: Any) -> Any:
            kernel, bias, transposed = (
                tf.convert_to_tensor(weight) for weight in (self.kernel, self.bias, self.transposed)
            )

            @tf.custom_gradient
            def convolved(maps: Any) -> Any:
                def gradient(upstream: Any) -> Any:
                    return tf.nn.conv2d(upstream, transposed, 1, "VALID")

                return tf.nn.bias_add(tf.nn.conv2d(maps, kernel, 1, "VALID"), bias), gradient

            return self.activation(convolved(maps))

    return FrozenPointwise


def is_pointwise(layer: Any) -> bool:
    """Whether a layer is an ordinary 1 × 1 convolution over maps ``[N, H, W, C]``."""
    import keras

    return (
        type(layer) is keras.layers.Conv2D
        and layer.kernel_size == layer.strides == (1, 1)
        and layer.groups == 1
        and layer.data_format == "channels_last"
    )
