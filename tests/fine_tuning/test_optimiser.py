"""Our optimisers against Keras' own, and what ours do besides."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tlkeras.fine_tuning.optimiser import Optimiser


def variable(values):
    return keras.Variable(values, dtype="float32")


def made(variables, factors=None, **options):
    defaults = {"kind": "adamw", "momentum": 0.9, "weight_decay": 0.0, "clip_norm": 0.0}
    return Optimiser(variables, factors or [1.0] * len(variables), **{**defaults, **options})


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"weight_decay": 0.02}, lambda: keras.optimizers.AdamW(0.01, weight_decay=0.02)),
        ({"kind": "sgd", "momentum": 0.8}, lambda: keras.optimizers.SGD(0.01, momentum=0.8, nesterov=True)),
    ],
    ids=["adamw", "sgd"],
)
def test_steps_are_those_of_keras(options, theirs):
    random = np.random.default_rng(0)
    start = random.normal(size=(5, 3)).astype(np.float32)
    mine, other = keras.Variable(start), keras.Variable(start)
    optimiser, reference = made([mine], **options), theirs()
    reference.build([other])
    for _ in range(6):
        gradient = tf.constant(random.normal(size=(5, 3)).astype(np.float32))
        optimiser.apply([mine], [gradient], 0.01)
        reference.apply([gradient], [other])
    assert np.abs(mine.numpy() - start).min() > 1e-4
    np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_norms_and_biases_do_not_decay(kind):
    kernel, bias = variable(np.ones((2, 2))), variable(np.ones(2))
    optimiser = made([kernel, bias], kind=kind, weight_decay=0.5)
    optimiser.apply([kernel, bias], [tf.zeros([2, 2]), tf.zeros([2])], 0.1)
    np.testing.assert_allclose(kernel.numpy(), 0.95)
    np.testing.assert_array_equal(bias.numpy(), 1.0)


def test_each_block_has_its_own_rate():
    variables = [variable(np.zeros(3)) for _ in range(2)]
    optimiser = made(variables, [1.0, 0.25])
    optimiser.apply(variables, [tf.ones([3])] * 2, 0.1)
    moved = [each.numpy()[0] for each in variables]
    assert moved[1] == pytest.approx(moved[0] / 4, rel=1e-5)


def test_gradients_are_clipped_together():
    variables = [variable(np.zeros(1)) for _ in range(2)]
    optimiser = made(variables, kind="sgd", momentum=0.0, clip_norm=1.0)
    length = optimiser.apply(variables, [tf.constant([30.0]), tf.constant([40.0])], 1.0)
    assert float(length) == pytest.approx(50)
    assert [float(v.numpy()[0]) for v in variables] == pytest.approx([-0.6, -0.8])


def test_a_variable_that_joins_late_starts_as_the_others_did():
    early, late = variable(np.zeros(1)), variable(np.zeros(1))
    optimiser = made([early, late])
    optimiser.apply([early], [tf.ones([1])], 0.1)
    first = early.numpy()[0]
    assert late.numpy()[0] == 0
    optimiser.apply([early, late], [tf.ones([1])] * 2, 0.1)
    assert late.numpy()[0] == pytest.approx(first)
    assert len(optimiser.slots) == 6
