import numpy as np
import pytest

from tests.heads.test_linear import clusters
from tlkeras.errors import ConfigError, DataError
from tlkeras.heads import neighbours
from tlkeras.heads.neighbours import nearest, vote


def directions(degrees):
    angle = np.radians(degrees)
    # Lengths differ widely: only the angle may count.
    lengths = np.geomspace(0.1, 10, len(degrees))[:, None]
    return (np.stack([np.cos(angle), np.sin(angle)], axis=1) * lengths).astype(np.float32)


def test_near_is_a_small_angle():
    rows = directions([0, 10, 40, 90])
    assert nearest(directions([12, 80]), rows, 3).tolist() == [[1, 0, 2], [3, 2, 1]]


def test_groups_are_no_neighbours_and_missing_ones_are_marked():
    rows = directions([0, 1, 50])
    groups = np.array([7, 7, 8])
    assert nearest(rows, rows, 2, query_groups=groups, row_groups=groups).tolist() == [[2, -1], [2, -1], [1, 0]]


def test_many_rows_are_taken_in_parts(monkeypatch):
    features, _ = clusters(50, 6, 3)
    whole = nearest(features, features, 4)
    monkeypatch.setattr(neighbours, "_QUERIES_AT_ONCE", 7)
    np.testing.assert_array_equal(nearest(features, features, 4), whole)


def test_votes_become_probabilities():
    rows, labels = directions([0, 5, 90]), np.array([0, 0, 1])
    shares = np.exp(vote(rows, labels, directions([2, 88]), 2, 3))
    # Two and one votes, and half a vote more for each class.
    np.testing.assert_allclose(shares, [[2.5 / 4, 1.5 / 4], [2.5 / 4, 1.5 / 4]], rtol=1e-6)
    assert np.exp(vote(rows, labels, directions([88]), 2, 1))[0].tolist() == pytest.approx([0.25, 0.75])
    # More neighbours than rows: all of them vote.
    np.testing.assert_allclose(np.exp(vote(rows, labels, directions([2]), 2, 9)), shares[:1], rtol=1e-6)


@pytest.mark.parametrize(("k", "size", "error"), [(0, 2, ConfigError), (1, 3, DataError)])
def test_neighbours_refuse(k, size, error):
    with pytest.raises(error):
        nearest(np.ones((2, size)), np.ones((3, 2)), k)
