"""Measured networks made of nothing, for what is computed from them."""

import numpy as np

from tlkeras.choosing.measure import Measured, Probe
from tlkeras.evaluation.metrics import accuracy_interval


def probe(hits: int, count: int = 400, *, agreement: float = 0.5, shift: int = 0) -> Probe:
    """The first ``hits`` of ``count`` photos right, moved by ``shift``."""
    right = np.roll(np.arange(count) < hits, shift)
    return Probe(right, hits / count, accuracy_interval(hits, count), 0.5, agreement)


def measured(
    name: str,
    hits: int,
    ms: float,
    *,
    random: int = 100,
    shift: float | None = 0.01,
    turned: int = 0,
    size_px: int = 224,
) -> Measured:
    return Measured(
        name=name,
        backbone=name,
        weights="pretrained",
        size_px=224,
        feature_size=256,
        parameters=round(1e6 * ms),
        megabytes=4 * ms,
        ms={1: ms, 32: ms / 2},
        engine="onnxruntime",
        difference=1e-6,
        logme=0.1,
        shift=shift,
        probe=probe(hits, agreement=0.8, shift=turned),
        random=probe(random, agreement=0.3),
        seconds=1.0,
    )
