"""The streamed head against the one that is solved in memory."""

import numpy as np
import pytest

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.linear import fit_path
from tlkeras.heads.search import search_linear
from tlkeras.heads.streaming import fit_streaming, memory_bytes, refit_streaming


def drawn(features, classes, noise, counts, seed=0):
    """Rows of ``classes`` overlapping clouds with very unequal axes, in parts of ``counts`` rows."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, features))
    axes = random.normal(size=(features, features)) * np.geomspace(1, 0.01, features)
    parts = []
    for count in counts:
        labels = random.integers(0, classes, count)
        rows = (centres[labels] + noise * random.normal(size=(count, features))) @ axes + 5.0
        parts.append((rows.astype(np.float32), labels))
    return parts


def pieces(rows, labels, size):
    return lambda number: ((rows[at : at + size], labels[at : at + size]) for at in range(0, len(labels), size))


def accuracy(head, rows, labels):
    return float((head.logits(rows).argmax(axis=1) == labels).mean())


@pytest.mark.parametrize(("features", "classes", "noise"), [(64, 10, 2.5), (128, 2, 4.0), (100, 20, 2.5)])
def test_within_half_a_point_of_the_head_in_memory(features, classes, noise):
    (X, y), (V, v), (T, t) = drawn(features, classes, noise, (6000, 1500, 8000))
    strength = search_linear(X[:1500], y[:1500], None, None, classes, 0).strength
    whole = fit_path(X, y, classes, strengths=[strength]).heads[0]
    sample = search_linear(X[:1500], y[:1500], None, None, classes, 0).head
    streamed = fit_streaming(pieces(X, y, 1024), pieces(V, v, 1000), classes, strength, start=sample)
    expected = accuracy(whole, T, t)
    assert 0.5 < expected < 0.999
    assert abs(accuracy(streamed.head, T, t) - expected) <= 0.005
    assert accuracy(streamed.head, T, t) >= accuracy(sample, T, t)
    assert streamed.rows == 6000


def test_it_gets_there_without_a_start_and_stops_by_itself():
    (X, y), (V, v), (T, t) = drawn(64, 5, 2.5, (5000, 1000, 5000))
    whole = fit_path(X, y, 5, strengths=[0.1]).heads[0]
    streamed = fit_streaming(pieces(X, y, 500), pieces(V, v, 1000), 5, 0.1, passes=30)
    assert len(streamed.curve) < 30
    assert abs(accuracy(streamed.head, T, t) - accuracy(whole, T, t)) <= 0.005


def test_the_refit_comes_nearer_to_the_head_on_all_rows():
    (X, y), (V, v), (T, _) = drawn(64, 5, 2.5, (1500, 1500, 8000))
    both, labels = np.concatenate([X, V]), np.concatenate([y, v])
    whole = fit_path(both, labels, 5, strengths=[0.1]).heads[0].logits(T)
    streamed = fit_streaming(pieces(X, y, 500), pieces(V, v, 500), 5, 0.1)
    first, second = streamed.head, refit_streaming(pieces(both, labels, 500), 5, [(0.1, streamed.steps)])
    apart = [float(np.abs(head.logits(T) - whole).mean()) for head in (first, second)]
    assert apart[1] < apart[0] / 2


def test_the_same_seed_gives_the_same_head():
    (X, y), (V, v) = drawn(16, 3, 2.0, (900, 300))
    heads = [fit_streaming(pieces(X, y, 300), pieces(V, v, 300), 3, 1.0, seed=4).head for _ in range(2)]
    np.testing.assert_array_equal(heads[0].weights, heads[1].weights)


def test_constant_columns_and_missing_rows():
    (X, y), (V, v) = drawn(16, 3, 2.0, (900, 300))
    X[:, 3] = V[:, 3] = 7.25
    streamed = fit_streaming(pieces(X, y, 300), pieces(V, v, 300), 3, 1.0)
    assert np.isfinite(streamed.head.weights).all()
    with pytest.raises(DataError, match="no training rows"):
        fit_streaming(lambda number: iter(()), pieces(V, v, 300), 3, 1.0)
    with pytest.raises(DataError, match="finite"):
        fit_streaming(pieces(X * np.nan, y, 300), pieces(V, v, 300), 3, 1.0)
    with pytest.raises(ConfigError):
        fit_streaming(pieces(X, y, 300), pieces(V, v, 300), 3, -1.0)


def test_memory_is_what_is_said():
    import tracemalloc

    features, classes = 256, 4
    (X, y), (V, v) = drawn(features, classes, 3.0, (3000, 500))
    parts = [(X[at : at + 100], y[at : at + 100]) for at in range(0, 3000, 100)]
    tracemalloc.start()
    fit_streaming(lambda number: iter(parts), pieces(V, v, 100), classes, 1.0, passes=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Besides: what one batch of 100 rows takes while it is worked on.
    assert peak <= memory_bytes(features, classes) + 8 * 100 * features * 8
