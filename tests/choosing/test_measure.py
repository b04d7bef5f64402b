import numpy as np
import pytest

from tlkeras.choosing.measure import milliseconds


def test_time_is_that_of_one_image():
    def slow(rows):
        import time

        time.sleep(0.02 * len(rows))
        return rows

    assert milliseconds(slow, np.zeros((2, 4, 4, 3)), 4) == pytest.approx(20, rel=0.5)
