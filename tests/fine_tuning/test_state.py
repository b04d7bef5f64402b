"""Weights between the start of a course of training and an epoch of it."""

import numpy as np
import pytest

from tlkeras.fine_tuning.state import AVERAGED, RAW, WeightsChoice

START = [np.array([0.0, 8.0], np.float32), np.float32(0.3)]
END = [np.array([2.0, 4.0], np.float32), np.float32(0.3)]


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        (WeightsChoice(RAW, 3), [2.0, 4.0]),
        (WeightsChoice(AVERAGED, 3, 0.5), [1.0, 6.0]),
        (WeightsChoice(RAW, 3, 0.0), [0.0, 8.0]),
    ],
)
def test_what_is_meant(pick, expected):
    moved, kept = pick.blend(START, END)
    np.testing.assert_array_equal(moved, np.array(expected, np.float32))
    # What no epoch has moved is not moved by rounding.
    assert kept == np.float32(0.3)
    assert moved.dtype == np.float32
