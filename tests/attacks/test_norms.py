import numpy as np
import pytest
import tensorflow as tf

from tlkeras.attacks import norms
from tlkeras.errors import ConfigError


@pytest.fixture(scope="module")
def original():
    return np.random.default_rng(0).integers(0, 256, (3, 10, 12, 3)).astype(np.uint8)


def change_of(scale):
    return np.random.default_rng(1).normal(0, scale, (3, 10, 12, 3)).astype(np.float32)


@pytest.mark.parametrize("epsilon_255", [0.5, 1.0, 2.7, 4.0, 16.0])
def test_rounding_stays_in_the_linf_ball(original, epsilon_255):
    moved = np.clip(original + np.clip(change_of(9), -epsilon_255, epsilon_255), 0, 255)
    rounded = norms.quantise(moved, original, "linf", epsilon_255)
    largest = np.abs(rounded.astype(int) - original).max()
    assert largest == int(epsilon_255)
    assert norms.inside(rounded, original, "linf", epsilon_255).all()


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_rounding_in_l2_keeps_changes_below_a_half_alive(original, scale):
    change = change_of(scale)
    epsilon_255 = float(np.linalg.norm(change[0])) * 1.05
    rounded = norms.quantise(original + change, original, "l2", epsilon_255)
    assert norms.inside(rounded, original, "l2", epsilon_255).all()
    length = norms.distances(rounded, original)["l2_255"]
    assert (length > 0.6 * epsilon_255).all()
    kept = rounded.astype(np.float32) - original
    along = (kept * change).sum(axis=(1, 2, 3)) / length / np.linalg.norm(change.reshape(3, -1), axis=1)
    assert (along > 0.6).all()


@pytest.mark.parametrize("norm", norms.NORMS)
def test_projection_reaches_the_edge_and_leaves_what_is_inside(original, norm):
    start = tf.constant(np.clip(original, 60, 200).astype(np.float32))
    far, near = start + change_of(30.0), start + 0.01
    radius = 20.0
    projected = norms.project(far, start, norm, radius)
    np.testing.assert_allclose(norms.lengths(projected - start, norm), radius, rtol=1e-4)
    np.testing.assert_array_equal(norms.project(near, start, norm, radius), near)
    free = norms.project(start + 500.0, start, norm, np.inf)
    assert float(tf.reduce_max(free)) == 255.0


@pytest.mark.parametrize("norm", norms.NORMS)
@pytest.mark.parametrize("size", [1e-25, 1.0, 1e8])
def test_unit_steps_have_length_one_however_small_the_gradient(norm, size):
    step = norms.unit_step(tf.constant(change_of(1.0) * np.float32(size)), norm)
    np.testing.assert_allclose(norms.lengths(step, norm), 1.0, rtol=1e-4)
    assert not np.asarray(norms.unit_step(tf.zeros([1, 2, 2, 3]), norm)).any()


@pytest.mark.parametrize("norm", norms.NORMS)
def test_random_changes_fill_the_ball(norm):
    random = np.random.default_rng(0)
    lengths = [
        float(norms.lengths(tf.constant(norms.random_change(random, (6, 6, 3), norm, 8.0))[None], norm)[0])
        for _ in range(200)
    ]
    assert max(lengths) <= 8.001
    assert max(lengths) > 7.5


def test_bisection_finds_the_largest():
    assert norms.largest(lambda x: x <= 1.25, 4.0) == pytest.approx(1.25, abs=1e-3)
    assert norms.largest(lambda x: True, 4.0) == 4.0


@pytest.mark.parametrize(
    ("norm", "epsilon_255", "words"),
    [("l1", 4, "unknown norm"), ("l2", -1, "above 0"), ("linf", 256, "at most 255"), ("l2", float("inf"), "above 0")],
)
def test_bad_budgets(norm, epsilon_255, words):
    with pytest.raises(ConfigError, match=words):
        norms.check_norm(norm, epsilon_255)
