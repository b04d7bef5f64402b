"""Rates and blocks over steps."""

from itertools import pairwise

import pytest

from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.schedules import FLOOR, block_factors, ema_decay, rate_at, unfrozen_blocks


def test_warm_up_then_cosine_down_to_the_floor():
    config = FineTuneConfig(learning_rate=0.1, warmup=0.2)
    rates = [rate_at(step, 50, config) for step in range(50)]
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert max(rates) == rates[10] == 0.1
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1 * FLOOR)
    # Half-way down, half the rate.
    assert rates[30] == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_runs_have_a_rate_too(steps):
    assert all(0 < rate_at(step, steps, FineTuneConfig(learning_rate=1.0)) <= 1 for step in range(steps))


def test_a_constant_stays():
    config = FineTuneConfig(schedule="constant", warmup=0.0, learning_rate=0.3)
    assert {rate_at(step, 9, config) for step in range(9)} == {0.3}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [5, 5, 5]),
        ({"unfreeze": 2}, [2, 2, 2]),
        ({"unfreeze": 0}, [0, 0, 0]),
        ({"unfreeze": 9}, [5, 5, 5]),
        ({"gradual": True}, [1, 2, 3]),
        ({"gradual": True, "unfreeze": 2}, [1, 2, 2]),
    ],
)
def test_blocks_that_learn(options, expected):
    assert [unfrozen_blocks(epoch, 5, FineTuneConfig(**options)) for epoch in range(3)] == expected


def test_rates_fall_from_block_to_block_towards_the_pixels():
    assert block_factors(3, FineTuneConfig(rate_decay=0.5)) == (0.25, 0.5, 1.0)


def test_averages_forget_their_start():
    config = FineTuneConfig(ema=0.99)
    assert ema_decay(0, config) == pytest.approx(0.1)
    assert ema_decay(10_000, config) == 0.99
