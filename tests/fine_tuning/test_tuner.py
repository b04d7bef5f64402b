"""Rates and blocks over steps; our AdamW against Keras' own, and what ours does besides."""

from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.tuner import FLOOR, AdamW, block_factors, ema_decay, rate_at, unfrozen_blocks


def variable(values):
    return keras.Variable(values, dtype="float32")


def made(variables, factors=None, weight_decay=0.0, clip_norm=0.0):
    return AdamW(variables, factors or [1.0] * len(variables), weight_decay=weight_decay, clip_norm=clip_norm)


def test_steps_are_those_of_keras():
    random = np.random.default_rng(0)
    start = random.normal(size=(5, 3)).astype(np.float32)
    mine, other = keras.Variable(start), keras.Variable(start)
    optimiser, reference = made([mine], weight_decay=0.02), keras.optimizers.AdamW(0.01, weight_decay=0.02)
    reference.build([other])
    for _ in range(6):
        gradient = tf.constant(random.normal(size=(5, 3)).astype(np.float32))
        optimiser.apply([gradient], tf.constant(0.01))
        reference.apply([gradient], [other])
    assert np.abs(mine.numpy() - start).min() > 1e-4
    np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-5, atol=1e-7)


def test_norms_and_biases_do_not_decay():
    kernel, bias = variable(np.ones((2, 2))), variable(np.ones(2))
    optimiser = made([kernel, bias], weight_decay=0.5)
    optimiser.apply([tf.zeros([2, 2]), tf.zeros([2])], tf.constant(0.1))
    np.testing.assert_allclose(kernel.numpy(), 0.95)
    np.testing.assert_array_equal(bias.numpy(), 1.0)


def test_each_block_has_its_own_rate():
    variables = [variable(np.zeros(3)) for _ in range(2)]
    optimiser = made(variables, [1.0, 0.25])
    optimiser.apply([tf.ones([3])] * 2, tf.constant(0.1))
    moved = [each.numpy()[0] for each in variables]
    assert moved[1] == pytest.approx(moved[0] / 4, rel=1e-5)


def test_gradients_are_clipped_together():
    shortened, whole = ([variable(np.zeros(1)) for _ in range(2)] for _ in range(2))
    clipping, plain = made(shortened, clip_norm=1.0), made(whole)
    for length in (50.0, 0.5):  # Adam does not see a constant factor: the second gradient tells that the first was cut
        gradients = [tf.constant([share * length]) for share in (0.6, 0.8)]
        assert float(clipping.apply(gradients, tf.constant(0.1))) == pytest.approx(length)
        cut = [gradient / max(length, 1.0) for gradient in gradients]
        plain.apply(cut, tf.constant(0.1))
    for one, other in zip(shortened, whole, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5)
    unclipped = [variable(np.zeros(1)) for _ in range(2)]
    optimiser = made(unclipped)
    for length in (50.0, 0.5):
        optimiser.apply([tf.constant([share * length]) for share in (0.6, 0.8)], tf.constant(0.1))
    assert abs(unclipped[0].numpy()[0] - shortened[0].numpy()[0]) > 0.01


def test_all_that_it_remembers_is_in_its_slots():
    """A second optimiser that is given the first one's slots goes on as the first does."""
    random = np.random.default_rng(1)
    gradients = [tf.constant(random.normal(size=3).astype(np.float32)) for _ in range(4)]
    one = variable(np.zeros(3))
    first = made([one])
    for gradient in gradients[:2]:
        first.apply([gradient], tf.constant(0.1))
    other = variable(one.numpy())
    second = made([other])
    for mine, theirs in zip(second.slots, first.slots, strict=True):
        mine.assign(theirs)
    for gradient in gradients[2:]:
        first.apply([gradient], tf.constant(0.1))
        second.apply([gradient], tf.constant(0.1))
    np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_warm_up_then_cosine_down_to_the_floor():
    config = FineTuneConfig(learning_rate=0.1, warmup=0.2)
    rates = [rate_at(step, 50, config) for step in range(50)]
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert max(rates) == rates[10] == 0.1
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1 * FLOOR)
    # Half-way down, half the rate.
    assert rates[30] == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_runs_have_a_rate_too(steps):
    assert all(0 < rate_at(step, steps, FineTuneConfig(learning_rate=1.0)) <= 1 for step in range(steps))


@pytest.mark.parametrize(("unfreeze", "expected"), [("all", 5), (2, 2), (0, 0), (9, 5)])
def test_blocks_that_learn(unfreeze, expected):
    assert unfrozen_blocks(5, FineTuneConfig(unfreeze=unfreeze)) == expected


def test_rates_fall_from_block_to_block_towards_the_pixels():
    assert block_factors(3, FineTuneConfig(rate_decay=0.5)) == (0.25, 0.5, 1.0)


def test_averages_forget_their_start():
    config = FineTuneConfig(ema=0.99)
    assert ema_decay(0, config) == pytest.approx(0.1)
    assert ema_decay(10_000, config) == 0.99
