import numpy as np
import pytest

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.logits import fit_temperature, log_loss_and_accuracy, ranked, softmax, temperature_warning


def sampled(count, temperature, seed=0):
    """Labels drawn from softmax(true logits); the logits given are ``temperature`` times too large."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(count, 4)) * 2
    cumulative = np.cumsum(softmax(true), axis=1)
    labels = (rng.random((count, 1)) > cumulative[:, :-1]).sum(axis=1)
    return true * temperature, labels


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 3.0, 8.0])
def test_finds_the_temperature_that_the_logits_were_made_with(temperature):
    assert fit_temperature(*sampled(20000, temperature)) == pytest.approx(temperature, rel=0.04)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), 1.0),
        (np.zeros((4, 3)), [0, 1, 2, 0], 1.0),
        # Two images more, half in each class: p = 2 / 3, so that 1 / T = log 2.
        ([[1.0, 0.0]], [0], 1 / np.log(2)),
        ([[0.3, 0.0]] * 40, [0] * 40, 0.3 / np.log(41)),
        ([[0.3, 0.0]] * 10**6, [0] * 10**6, 0.05),
        ([[1.0, 0.0]], [1], 20.0),
        ([[1e4, 0.0], [0.0, 1e4]], [0, 0], 20.0),
    ],
    ids=[
        "none",
        "no information",
        "right once",
        "right 40 times",
        "right often",
        "always wrong",
        "huge logits",
    ],
)
def test_few_images(logits, labels, expected):
    assert fit_temperature(np.asarray(logits), np.asarray(labels)) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("temperature", "words"), [(0.05, "lower bound"), (20.0, "upper bound"), (1.0, None)])
def test_a_temperature_at_a_bound_is_told(temperature, words):
    said = temperature_warning(temperature)
    assert (words in said) if words else said == ""


def test_softmax_is_stable_float32():
    probabilities = softmax(np.array([[1e5, 0.0, -1e5], [0.0, np.log(3.0), -1e9]]))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, [[1, 0, 0], [0.25, 0.75, 0]], atol=1e-7)
    np.testing.assert_allclose(softmax(np.array([[0.0, 2 * np.log(3.0)]]), 2.0), [[0.25, 0.75]], atol=1e-7)


@pytest.mark.parametrize(
    ("scores", "top", "expected"),
    [
        ([0.2, 0.5, 0.3], 2, [1, 2]),
        ([0.25, 0.25, 0.25, 0.25], 3, [0, 1, 2]),
        ([0.1, 0.4, 0.1, 0.4], None, [1, 3, 0, 2]),
        ([[0.0, 1.0], [1.0, 1.0]], 1, [[1], [0]]),
    ],
)
def test_equal_scores_rank_by_class_number_as_argmax_has_it(scores, top, expected):
    assert ranked(np.array(scores), top).tolist() == expected
    assert np.all(ranked(np.array(scores))[..., 0] == np.argmax(scores, axis=-1))


def test_loss_and_accuracy_of_a_case_by_hand():
    found = log_loss_and_accuracy(np.log([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]]), np.array([0, 2]))
    assert found == {"log_loss": pytest.approx(-np.log([0.5, 0.1]).mean()), "accuracy": 0.5}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: softmax(np.zeros((1, 2)), 0.0), ConfigError, "positive"),
        (lambda: softmax(np.zeros((1, 2)), float("inf")), ConfigError, "finite"),
        (lambda: fit_temperature(np.zeros((2, 2)), np.zeros(3, int)), DataError, "shapes"),
        (lambda: fit_temperature(np.full((1, 2), np.nan), np.zeros(1, int)), DataError, "finite"),
        (lambda: fit_temperature(np.zeros((1, 2)), np.array([2])), DataError, r"0\.\.1"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()
