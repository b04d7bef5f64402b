"""Weights between and among those of a course of training."""

import numpy as np
import pytest

from tlkeras.fine_tuning.pick import AVERAGED, RAW, Pick

START = [np.array([0.0, 8.0], np.float32), np.float32(0.3)]
ONE = [np.array([2.0, 4.0], np.float32), np.float32(0.3)]
OTHER = [np.array([4.0, 0.0], np.float32), np.float32(0.3)]


@pytest.mark.parametrize(
    ("pick", "parts", "expected"),
    [
        (Pick(RAW, (3,)), [ONE], [2.0, 4.0]),
        (Pick(RAW, (3, 5)), [ONE, OTHER], [3.0, 2.0]),
        (Pick(AVERAGED, (3,), 0.5), [ONE], [1.0, 6.0]),
        (Pick(RAW, (3, 5), 0.25), [ONE, OTHER], [0.75, 6.5]),
        (Pick(RAW, (3,), 0.0), [ONE], [0.0, 8.0]),
    ],
)
def test_what_is_meant(pick, parts, expected):
    moved, kept = pick.blend(START, parts)
    np.testing.assert_array_equal(moved, np.array(expected, np.float32))
    # What no epoch has moved is not moved by rounding.
    assert kept == np.float32(0.3)
    assert moved.dtype == np.float32
