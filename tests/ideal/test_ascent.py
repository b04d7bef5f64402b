"""The compiled loop against the same steps written out in NumPy, on a network whose gradient is known."""

import keras
import numpy as np
import pytest

from tlkeras.ideal.ascent import ADAM, GRADIENT, Ascent, Climb, rounded
from tlkeras.ideal.objectives import ClassLogit
from tlkeras.ideal.parameterisation import Pixels, Transforms
from tlkeras.target import Target

SIZE = 6
# Pixels of 128 ± 20 and steps of about 1 stay inside 0..255, so that clipping has no part in the figures.
STEPS = 12


@pytest.fixture(scope="module")
def quadratic():
    """Logit k of an image is minus half the squared distance to picture k: its gradient is the difference."""
    pictures = np.random.default_rng(1).uniform(100, 150, (2, SIZE * SIZE * 3)).astype(np.float32)
    pixels = keras.Input((SIZE, SIZE, 3))
    flat = keras.layers.Flatten()(pixels)
    linear = keras.layers.Dense(2)
    squares = keras.layers.Dot(axes=1)([flat, flat])
    network = keras.Model(pixels, linear(flat) - squares / 2)
    linear.kernel.assign(pictures.T)
    linear.bias.assign(-(pictures**2).sum(axis=1) / 2)
    return Target("quadratic", "", network, ("a", "b"), SIZE, "crop"), pictures.reshape(2, SIZE, SIZE, 3)


def climb(target, ascent):
    return Climb(target, ClassLogit(), Pixels(), Transforms(), ascent)


def by_hand(start, goal, ascent):
    image, mean, square, values = start.astype(np.float64), 0.0, 0.0, []
    for step in range(ascent.steps):
        values.append(-((image - goal) ** 2).sum() / 2)
        gradient = goal - image
        part = (step + 1) / ascent.steps
        cold = np.clip((part - 1 + ascent.cooling) / ascent.cooling, 0, 1)
        rate = ascent.rate * (0.05 + 0.95 * (1 + np.cos(np.pi * cold)) / 2)
        if ascent.rule == ADAM:
            mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
            image = image + rate * (mean / (1 - 0.9 ** (step + 1))) / np.sqrt(square / (1 - 0.99 ** (step + 1)))
        else:
            image = image + rate * gradient / np.sqrt((gradient**2).mean())
    return image, values


@pytest.mark.parametrize("rule", [ADAM, GRADIENT])
def test_the_loop_takes_the_steps_that_it_says(quadratic, rule):
    target, pictures = quadratic
    ascent = Ascent(rule, 0.8, STEPS)
    moving = climb(target, ascent)
    moving.start([4, 5], [1, 0])
    start = moving.pixels()
    values = moving.advance(STEPS)
    assert values.shape == (STEPS, 2)
    for place, k in enumerate((1, 0)):
        image, expected = by_hand(start[place], pictures[k], ascent)
        np.testing.assert_allclose(moving.pixels()[place], image, atol=0.02)
        np.testing.assert_allclose(values[:, place], expected, rtol=1e-3)
        assert values[-1, place] > values[0, place]


def test_the_steps_may_be_taken_in_portions(quadratic):
    target, _ = quadratic
    moving = climb(target, Ascent(ADAM, 0.8, STEPS))
    results = []
    for portions in ([STEPS], [1, 4, STEPS - 5]):
        moving.start([4, 5], [1, 0])
        values = np.concatenate([moving.advance(portion) for portion in portions])
        assert moving.step == STEPS
        results.append((moving.pixels(), values))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_an_image_does_not_depend_on_its_neighbours(quadratic):
    target, _ = quadratic
    moving = climb(target, Ascent(ADAM, 0.8, STEPS))
    moving.start([4, 5], [1, 0])
    moving.advance(STEPS)
    together = moving.pixels()
    moving.start([5], [0])
    moving.advance(STEPS)
    np.testing.assert_allclose(moving.pixels()[0], together[1], atol=1e-3)


@pytest.mark.parametrize(
    ("end", "expected"),
    [(keras.layers.GlobalAveragePooling2D(), 32), (keras.layers.Flatten(), 64)],
    ids=["any size", "one size"],
)
def test_a_network_that_takes_one_size_only_sees_the_whole_image(end, expected):
    pixels = keras.Input((64, 64, 3))
    network = keras.Model(pixels, keras.layers.Dense(2)(end(keras.layers.Conv2D(2, 3)(pixels))))
    target = Target("small", "", network, ("a", "b"), 64, "crop").folded
    moving = Climb(target, ClassLogit(), Pixels(), Transforms(window=0.5), Ascent(ADAM, 1.0, 2))
    assert moving.window_px == expected
    moving.start([1], [0])
    assert np.isfinite(moving.advance(2)).all()


def test_the_rate_falls_over_the_last_share_of_the_steps():
    ascent = Ascent(ADAM, 2.0, 100, cooling=0.5)
    rates = [float(ascent.rate_at(step)) for step in range(100)]
    assert rates[:50] == pytest.approx([2.0] * 50)
    assert rates[-1] == pytest.approx(0.1)
    assert (np.diff(rates[50:]) < 0).all()


def test_rounding_keeps_to_what_a_file_holds():
    np.testing.assert_array_equal(rounded(np.array([-2.0, 0.6, 254.4, 260.0])), np.uint8([0, 1, 254, 255]))
