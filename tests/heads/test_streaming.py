"""The streamed head against the one that is solved in memory."""

import numpy as np
import pytest

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.linear import LinearHead
from tlkeras.heads.logits import softmax
from tlkeras.heads.search import fit_linear, search_linear
from tlkeras.heads.streaming import fit_streaming, measure, memory_bytes, principal_axes, search_streaming


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
    return lambda: ((rows[at : at + size], labels[at : at + size]) for at in range(0, len(labels), size))


def accuracy(head, rows, labels):
    return float((head.logits(rows).argmax(axis=1) == labels).mean())


@pytest.mark.parametrize(
    ("features", "classes", "noise", "rows"),
    [(64, 10, 2.5, 6000), (128, 2, 4.0, 6000), (100, 20, 2.5, 6000), (256, 5, 6.0, 600)],
)
def test_it_is_the_head_that_is_solved_in_memory(features, classes, noise, rows):
    (X, y), (T, t) = drawn(features, classes, noise, (rows, 8000))
    found = search_linear(X[: rows // 4], y[: rows // 4], None, None, classes, 0)
    whole = fit_linear(X, y, classes, found.strength)
    streamed = fit_streaming(pieces(X, y, 1024), classes, found.strength, start=found.head)
    expected = accuracy(whole, T, t)
    assert 0.5 < expected < 0.999
    assert abs(accuracy(streamed.head, T, t) - expected) <= 0.002
    assert accuracy(streamed.head, T, t) > accuracy(found.head, T, t)
    logits = whole.logits(T)
    assert np.abs(streamed.head.logits(T) - logits).mean() < 0.03 * np.abs(logits).mean()
    assert streamed.rows == rows


def ill_conditioned(kind, classes, seed):
    """Rows whose Hessian is far from the diagonal that both solvers start from."""
    random = np.random.default_rng(seed)
    features, count = (120, 110) if kind == "wide" else (40, 700)
    labels = random.choice(classes, count, p=random.dirichlet(np.full(classes, 3.0)))
    labels[:classes] = np.arange(classes)
    rows = random.normal(size=(classes, features))[labels] + 2 * random.normal(size=(count, features))
    mixing = random.normal(size=(features, features))
    if kind == "activations":  # mostly zero, with a heavy tail, as a network's features are
        rows = np.maximum(rows @ mixing / np.sqrt(features) - 1.5, 0)
    elif kind == "collinear":
        rows[:, features // 2 :] = rows[:, : features // 2] + 0.01 * rows[:, features // 2 :]
    elif kind == "tails":
        rows = random.normal(size=(classes, features))[labels] / 2 + random.standard_t(2.5, size=(count, features))
    else:
        rows = rows @ (mixing * np.geomspace(1, 1e-3, features)[:, None])
    rows *= np.geomspace(1e-2, 1e2, features)[random.permutation(features)]
    if kind == "far":  # the mean is large against what tells rows apart
        rows += 30 * rows.std(axis=0)
    return rows.astype(np.float32), labels


@pytest.mark.parametrize("strength", [0.1, 10.0])
@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("kind", ["mixed", "activations", "collinear", "tails", "wide", "far"])
def test_probabilities_on_ill_conditioned_rows_are_those_of_the_solver_in_memory(kind, classes, strength):
    X, y = ill_conditioned(kind, classes, seed=classes)
    streamed = fit_streaming(pieces(X, y, 128), classes, strength, passes=200)
    assert streamed.converged
    whole = fit_linear(X, y, classes, strength)
    np.testing.assert_allclose(softmax(streamed.head.logits(X)), softmax(whole.logits(X)), atol=0.01)


def test_it_says_when_it_has_not_converged():
    X, y = ill_conditioned("activations", 6, seed=6)
    short, full = (fit_streaming(pieces(X, y, 128), 6, 10.0, passes=passes) for passes in (15, 100))
    assert not short.converged
    assert len(short.curve) == 15
    assert short.left_nats > full.left_nats
    # What it says is left is of the size of what was left.
    really_left = short.curve[-1]["objective"] - full.curve[-1]["objective"]
    assert 0.01 < short.left_nats / really_left < 10


def test_the_search_goes_where_validation_gains_and_learns_from_it_in_the_end():
    (X, y), (V, v) = drawn(32, 4, 3.0, (600, 2000))
    train, validation, both = pieces(X, y, 128), pieces(V, v, 128), pieces(*map(np.concatenate, ((X, V), (y, v))), 128)
    found = search_streaming(train, validation, both, 4, strength=1e-5)
    losses = [row["log_loss"] for row in found.curve]
    chosen = found.curve[int(np.argmin(losses))]
    assert found.strength == chosen["strength"] > 1e-5
    assert chosen["log_loss"] == pytest.approx(measure(found.held_out_head, validation)["log_loss"])
    assert found.converged
    assert found.passes > sum(row["passes"] for row in found.curve)
    whole = fit_linear(*map(np.concatenate, ((X, V), (y, v))), 4, found.strength)
    np.testing.assert_allclose(softmax(found.head.logits(V)), softmax(whole.logits(V)), atol=0.005)


@pytest.mark.parametrize("strength", [0.001, 0.1, 10.0])
def test_it_gets_there_without_a_start_and_stops_by_itself(strength):
    (X, y), (T, t) = drawn(64, 5, 2.5, (5000, 5000))
    whole = fit_linear(X, y, 5, strength)
    streamed = fit_streaming(pieces(X, y, 500), 5, strength)
    assert streamed.converged
    assert len(streamed.curve) < 40
    objectives = [row["objective"] for row in streamed.curve]
    assert objectives[-1] <= min(objectives) + 1e-5
    assert abs(accuracy(streamed.head, T, t) - accuracy(whole, T, t)) <= 0.002


def test_from_a_bad_start_steps_are_shortened_until_they_gain():
    (X, y), (T, t) = drawn(64, 5, 2.5, (5000, 5000))
    whole = fit_linear(X, y, 5, 0.1)
    # Sure of wrong answers everywhere: there the curvature is next to none, and a whole step goes far too far.
    bad = LinearHead(-30 * whole.weights, -30 * whole.bias)
    streamed = fit_streaming(pieces(X, y, 500), 5, 0.1, start=bad, passes=80)
    assert min(row["step"] for row in streamed.curve[1:]) < 1.0
    assert abs(accuracy(streamed.head, T, t) - accuracy(whole, T, t)) <= 0.002


def test_neither_the_order_of_rows_nor_the_size_of_batches_matters():
    ((X, y),) = drawn(16, 3, 2.0, (900,))
    order = np.argsort(y, kind="stable")
    heads = [
        fit_streaming(batches, 3, 1.0).head
        for batches in (pieces(X, y, 300), pieces(X, y, 7), pieces(X[order], y[order], 300))
    ]
    for head in heads[1:]:
        np.testing.assert_allclose(head.logits(X), heads[0].logits(X), atol=0.02)


def test_axes_can_be_used_again_and_passes_are_counted():
    ((X, y),) = drawn(16, 3, 2.0, (900,))
    read = []
    batches = lambda: (read.append(None), pieces(X, y, 300)())[1]  # noqa: E731
    axes = principal_axes(batches, 3)
    first = fit_streaming(batches, 3, 1.0, axes=axes)
    assert len(read) == 1 + len(first.curve)
    assert [row["pass"] for row in first.curve] == list(range(1, len(first.curve) + 1))
    again = fit_streaming(batches, 3, 1.0, axes=axes, start=first.head)
    assert len(again.curve) <= 3


def test_constant_columns_and_missing_rows():
    ((X, y),) = drawn(16, 3, 2.0, (900,))
    X[:, 3] = 7.25
    assert np.isfinite(fit_streaming(pieces(X, y, 300), 3, 1.0).head.weights).all()
    with pytest.raises(DataError, match="no training rows"):
        fit_streaming(lambda: iter(()), 3, 1.0)
    with pytest.raises(DataError, match="finite"):
        fit_streaming(pieces(X * np.nan, y, 300), 3, 1.0)
    with pytest.raises(ConfigError):
        fit_streaming(pieces(X, y, 300), 3, -1.0)


def test_measure():
    (X, y), (V, v) = drawn(16, 3, 2.0, (900, 300))
    head = fit_streaming(pieces(X, y, 300), 3, 1.0).head
    found = measure(head, pieces(V, v, 70))
    logits = head.logits(V).astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found["accuracy"] == accuracy(head, V, v)
    assert found["log_loss"] == pytest.approx(-np.log(chances[np.arange(300), v]).mean())
    with pytest.raises(DataError, match="no validation rows"):
        measure(head, lambda: iter(()))


def test_memory_is_what_is_said():
    import tracemalloc

    features, classes = 256, 4
    ((X, y),) = drawn(features, classes, 3.0, (3000,))
    parts = [(X[at : at + 100], y[at : at + 100]) for at in range(0, 3000, 100)]
    tracemalloc.start()
    fit_streaming(lambda: iter(parts), classes, 1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Besides: what one batch of 100 rows takes while it is worked on.
    assert peak <= memory_bytes(features, classes) + 8 * 100 * features * 8
