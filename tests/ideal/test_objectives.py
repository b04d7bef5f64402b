"""Objectives against the same formulas in NumPy, and how they combine."""

import numpy as np
import pytest
import tensorflow as tf

from tests.networks import small_network
from tlkeras import backbones
from tlkeras.backbones.folding import fold_batch_norm
from tlkeras.backbones.layers import layer_rows, with_layers
from tlkeras.ideal.objectives import (
    Channel,
    ClassLogit,
    ClassLogProbability,
    LayerNorm,
    Objective,
    Seen,
    TotalVariation,
    strange_statistics,
)

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.uniform(0, 255, (2, 6, 6, 3)).astype(np.float32)
LOGITS = RANDOM.normal(size=(2, 4)).astype(np.float32)
MAPS = RANDOM.normal(size=(2, 5, 3, 7)).astype(np.float32)
CLASSES = np.array([3, 1])
SEEN = Seen(tf.constant(IMAGE), tf.constant(LOGITS), tf.constant(CLASSES), {"maps": tf.constant(MAPS)})
LOG_SOFTMAX = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
VARIATION = sum(np.abs(np.diff(IMAGE / 255, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (ClassLogit(), LOGITS[[0, 1], CLASSES]),
        (ClassLogit(2), LOGITS[:, 2]),
        (ClassLogProbability(), LOG_SOFTMAX[[0, 1], CLASSES]),
        (ClassLogProbability(0), LOG_SOFTMAX[:, 0]),
        (Channel("maps", 4), MAPS[..., 4].mean(axis=(1, 2))),
        (LayerNorm("maps"), (MAPS**2).mean(axis=(1, 2, 3))),
        (TotalVariation(), VARIATION),
        (ClassLogit(2) - 0.5 * TotalVariation(), LOGITS[:, 2] - 0.5 * VARIATION),
        (ClassLogit(2) * 2 - LayerNorm("maps"), 2 * LOGITS[:, 2] - (MAPS**2).mean(axis=(1, 2, 3))),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Objective) else "",
)
def test_the_value_of_each_image(objective, expected):
    np.testing.assert_allclose(objective(SEEN), expected, rtol=1e-5, atol=1e-6)


def test_a_sum_looks_at_the_layers_of_its_parts():
    both = Channel("a", 0) + 2 * Channel("b", 1) - LayerNorm("a") - TotalVariation()
    assert both.layers == ("a", "b")


def test_statistics_are_strange_where_an_image_is_unlike_the_training_photos():
    network = small_network()
    inner = backbones.application(network)
    photos = RANDOM.uniform(60, 190, (1, 32, 32, 3)).astype(np.float32)
    objective = strange_statistics(network)
    assert len(objective.names) == 23  # of 27, those with more than one place at this size

    before = distance_of(network, photos)
    # As if the network had been trained on just this photo, layer by layer.
    for name in [layer.name for layer in inner.layers if type(layer).__name__ == "BatchNormalization"]:
        layer = inner.get_layer(name)
        values = with_layers(network, [_layer_before(inner, layer)])(photos, training=False)
        (entering,) = [value for key, value in values.items() if key]
        mean, variance = tf.nn.moments(entering, axes=[0, 1, 2])
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    after = distance_of(network, photos)
    assert after[0] < 1e-2 < before[0]
    assert distance_of(network, np.flip(photos * 0.2, axis=1))[0] > 10 * after[0]


def distance_of(network, pixels):
    objective = strange_statistics(network)
    outputs = dict(with_layers(network, objective.layers)(pixels, training=False))
    return objective(Seen(pixels, outputs.pop(""), tf.constant([0]), outputs)).numpy()


def _layer_before(inner, layer):
    (name,) = [other.name for other in inner.layers if any(other.output is tensor for tensor in [layer.input])]
    return name


def test_the_folded_network_has_the_same_statistics():
    network = small_network()
    folded = fold_batch_norm(network)
    objective = strange_statistics(network, seen_in=folded)
    assert len(layer_rows(folded)) < len(layer_rows(network))
    pixels = RANDOM.uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    outputs = dict(with_layers(folded, objective.layers)(pixels, training=False))
    value = objective(Seen(pixels, outputs.pop(""), tf.constant([0, 0]), outputs))
    np.testing.assert_allclose(value, distance_of(network, pixels), rtol=1e-3)


def test_of_every_three_normalisations_the_narrowest_is_looked_at():
    network = backbones.build("mobilenet_v2_0.35", "none", size_px=32)
    names = strange_statistics(network, one_of=3).names
    assert names[:2] == ("expanded_conv_project_BN", "block_1_project_BN")
    assert all("project" in name for name in names[:-1])  # the last of them has no two others beside it
    whole = strange_statistics(network)
    assert len(names) == -(-len(whole.names) // 3)
    # What is known of a layer goes with it.
    at = whole.names.index(names[1])
    part = strange_statistics(network, one_of=3)
    np.testing.assert_array_equal(part.means[1], whole.means[at])
    np.testing.assert_array_equal(part.spreads[1], whole.spreads[at])


def test_a_network_without_batch_normalisation_has_no_statistics():
    assert strange_statistics(backbones.build("vgg16", "none", size_px=32)) is None
