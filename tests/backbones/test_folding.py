"""Folded networks compute the same, forward and backward, with fewer layers to pass."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks import lively_network, small_network
from tlkeras import backbones
from tlkeras.backbones.folding import fold_batch_norm, frozen_pointwise, is_pointwise


def random_statistics(network):
    """Give every batch normalisation its own mean, variance, scale and shift, mild enough that signals survive."""
    random = np.random.default_rng(0)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(0, 0.1, shape))
            layer.moving_variance.assign(random.uniform(0.02, 0.1, shape))
            layer.beta.assign(random.normal(0, 0.1, shape))
            if layer.gamma is not None:
                layer.gamma.assign(random.uniform(0.5, 1.5, shape))
    return network


def norms_of(network):
    """How many batch normalisations are really computed."""
    return sum(isinstance(op, keras.layers.BatchNormalization) for op in network.operations)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("mobilenet_0.25", 0),
        ("mobilenet_v2_0.35", 0),
        ("efficientnet_lite0", 0),
        pytest.param("resnet50_v2", 17, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", 0, marks=pytest.mark.slow),
    ],
)
def test_folded_backbones_compute_the_same(name, left):
    keras.utils.set_random_seed(0)
    network = random_statistics(backbones.build(name, "none", size_px=32))
    folded = fold_batch_norm(network)
    assert folded is not network
    assert norms_of(backbones.application(folded)) == left < norms_of(backbones.application(network))
    pixels = tf.constant(np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)), tf.float32)
    expected = network(pixels, training=False).numpy()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(folded(pixels, training=False), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_folded_networks_have_the_same_gradients_and_take_other_sizes():
    pixels = tf.constant(np.random.default_rng(4).uniform(0, 255, (2, 64, 64, 3)), tf.float32)
    network = lively_network("mobilenet_v2_0.35", 64, pixels)
    folded = fold_batch_norm(network)
    assert folded.input_shape == (None, None, None, 3)
    gradients = []
    for each in (network, folded):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            value = tf.reduce_sum(each(pixels, training=False) ** 2)
        gradients.append(tape.gradient(value, pixels).numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=0, atol=1e-3 * np.abs(gradients[0]).max())
    larger = backbones.build("mobilenet_v2_0.35", "none", size_px=96)
    larger.set_weights(network.get_weights())
    photos = np.random.default_rng(5).uniform(0, 255, (1, 96, 96, 3)).astype(np.float32)
    expected = larger(photos, training=False).numpy()
    np.testing.assert_allclose(folded(photos), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_a_network_of_one_size_keeps_it():
    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(pixels))
    network = random_statistics(keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(maps))))
    folded = fold_batch_norm(network)
    assert folded is not network
    assert folded.input_shape == (None, 8, 8, 3)
    assert norms_of(folded) == 0


def test_a_classifier_with_both_views_is_folded():
    backbone = random_statistics(small_network(32))
    pixels = keras.Input((32, 32, 3))
    features = (backbone(pixels) + backbone(keras.ops.flip(pixels, axis=2))) / 2
    network = keras.Model(pixels, keras.layers.Dense(3)(features))
    folded = fold_batch_norm(network)
    assert folded is not network
    image = np.random.default_rng(2).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(folded(image), network(image, training=False), rtol=1e-3, atol=1e-4)


def test_what_others_read_is_not_folded():
    pixels = keras.Input((8, 8, 3))
    convolved = keras.layers.Conv2D(4, 3)(pixels)
    both = keras.layers.BatchNormalization()(convolved) + convolved
    network = random_statistics(keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(both)))
    folded = fold_batch_norm(network)
    image = np.random.default_rng(3).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(folded(image), network(image, training=False), rtol=1e-4, atol=1e-3)
    assert norms_of(folded) == 1


def test_a_network_that_cannot_be_copied_is_returned_itself():
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()])
    assert fold_batch_norm(network) is network


# The frozen pointwise convolution against Keras' own, forward and backward.


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
