"""A network with constant weights gives the same answers and gradients, without reading a variable."""

import numpy as np
import pytest
import tensorflow as tf

from tests.networks import small_network
from tlkeras.backbones import constants
from tlkeras.backbones.constants import with_constants
from tlkeras.backbones.inside import with_layers


@pytest.fixture(scope="module")
def network():
    return small_network()


def answer_and_gradient(call, pixels):
    @tf.function(autograph=False)
    def both(given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            answer = call(given)
        return answer, tape.gradient(answer, given)

    traced = both.get_concrete_function(tf.constant(pixels))
    return [value.numpy() for value in traced(tf.constant(pixels))], {op.type for op in traced.graph.get_operations()}


def test_the_same_answers_and_gradients_without_variables(network):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *network.input_shape[1:])).astype(np.float32)
    expected, before = answer_and_gradient(lambda given: network(given, training=False), pixels)
    got, after = answer_and_gradient(with_constants(network), pixels)
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())
    assert "ReadVariableOp" in before
    assert "ReadVariableOp" not in after


def test_a_network_that_is_too_large_keeps_its_variables(network, monkeypatch):
    monkeypatch.setattr(constants, "MOST_BYTES", 1000)
    pixels = np.zeros((1, *network.input_shape[1:]), np.float32)
    assert "ReadVariableOp" in answer_and_gradient(with_constants(network), pixels)[1]


def test_layers_beside_the_answer_come_through(network):
    name = next(layer.name for layer in network._flatten_layers() if layer.name.startswith("conv_pw_3"))
    tapped = with_layers(network, [name])
    pixels = np.zeros((1, *network.input_shape[1:]), np.float32)
    expected, got = tapped(pixels, training=False), with_constants(tapped)(tf.constant(pixels))
    assert set(got) == set(expected) == {name, ""}
    np.testing.assert_allclose(got[name], expected[name], atol=1e-5)
