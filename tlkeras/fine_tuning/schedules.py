"""Learning rates over steps and blocks, as pure functions: a schedule's position is the number of the step."""

from __future__ import annotations

import math

from tlkeras.fine_tuning.config import ALL, FineTuneConfig

# Cosine ends at this share of the highest rate.
FLOOR = 0.01


def rate_at(step: int, steps: int, config: FineTuneConfig) -> float:
    """The learning rate of a step, ``0 ≤ step < steps``: linear warm-up, then half a cosine or a constant.

    Loshchilov & Hutter 2017, "SGDR".
    """
    rising = math.ceil(config.warmup * steps)
    if step < rising:
        return config.rate * (step + 1) / (rising + 1)
    if config.schedule == "constant":
        return config.rate
    through = (step - rising) / max(steps - rising - 1, 1)
    return config.rate * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * through)) / 2)


def unfrozen_blocks(epoch: int, block_count: int, config: FineTuneConfig) -> int:
    """How many of the last blocks are trained in an epoch, which counts from 0."""
    most = block_count if config.unfreeze == ALL else min(int(config.unfreeze), block_count)
    return min(most, epoch + 1) if config.gradual else most


def block_factors(block_count: int, config: FineTuneConfig) -> tuple[float, ...]:
    """What the rate is multiplied with in each block, the one at the pixels first; the last block's factor is 1."""
    return tuple(config.rate_decay ** (block_count - 1 - index) for index in range(block_count))


def ema_decay(step: int, config: FineTuneConfig) -> float:
    """The decay of the averaged weights after a step: it grows to ``config.ema``, to forget the start soon."""
    return min(config.ema, (1 + step) / (10 + step))
