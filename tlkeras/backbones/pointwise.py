"""Pointwise convolutions whose way back is a convolution too, which is quicker than what TensorFlow takes for it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


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
