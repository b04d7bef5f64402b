"""The frozen pointwise convolution against Keras' own, forward and backward."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tlkeras.backbones.pointwise import frozen_pointwise, is_pointwise


def test_it_computes_what_the_ordinary_layer_computes():
    random = np.random.default_rng(0)
    ordinary = keras.layers.Conv2D(5, 1, activation="relu", name="pointwise")
    maps = tf.constant(random.normal(size=(2, 6, 7, 4)), tf.float32)
    ordinary(maps)
    ordinary.set_weights([random.normal(size=(1, 1, 4, 5)), random.normal(size=5)])
    frozen = frozen_pointwise().from_config(ordinary.get_config())
    frozen.build(maps.shape)
    frozen.set_weights(ordinary.get_weights())
    answers = []
    for layer in (ordinary, frozen):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            output = layer(maps)
            value = tf.reduce_sum(output**2)
        answers.append((output.numpy(), tape.gradient(value, maps).numpy()))
    assert 0.2 < (answers[0][0] > 0).mean() < 0.8
    for expected, got in zip(*answers, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras.layers.Conv2D(4, 1), True),
        (keras.layers.Conv2D(4, 1, strides=2), False),
        (keras.layers.Conv2D(4, (1, 3)), False),
        (keras.layers.Conv2D(4, 1, groups=2), False),
        (keras.layers.Conv2D(4, 1, data_format="channels_first"), False),
        (keras.layers.DepthwiseConv2D(1), False),
    ],
    ids=["pointwise", "strides", "wide", "groups", "channels first", "depthwise"],
)
def test_which_layers_are_pointwise(layer, expected):
    assert is_pointwise(layer) is expected
