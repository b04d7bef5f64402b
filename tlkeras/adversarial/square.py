"""The Square attack: random search with square patches, which asks for nothing but the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tlkeras.adversarial.attack_base import Attack, Batch, State, Tensor
from tlkeras.adversarial.goals import LOSSES
from tlkeras.adversarial.oracle import Oracle
from tlkeras.errors import ConfigError

# Of 10,000 queries, those after which the squares' area is halved (Andriushchenko et al. 2020, section 4).
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_FULL_SCHEDULE = 10_000


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Square Attack (Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack …").

    Its L∞ version. It sees no gradient, so it finds what gradients that vanish would hide. steps: queries.
    first_share: the share of the image's area that the first squares cover (the paper's p).
    """

    steps: int = 500
    first_share: float = 0.05

    name: ClassVar[str] = "square"
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    black_box: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.first_share <= 1:
            raise ConfigError(
                "first_share is a share of the image's area, above 0 and up to 1", received=self.first_share
            )

    def side_px(self, height: int, width: int, step: int) -> int:
        """The side of the squares at a step, in pixels."""
        at = step / self.steps * _FULL_SCHEDULE
        halvings = sum(at > after for after in _HALVED_AFTER)
        area = self.first_share / 2**halvings * height * width
        return int(np.clip(round(area**0.5), 1, min(height, width)))

    def start(self, oracle: Oracle, batch: Batch) -> State:
        """Vertical stripes of width 1, each at plus or minus epsilon."""
        del oracle
        _, _, width, channels = batch.original.shape
        signs = np.stack([random.choice([-1.0, 1.0], (1, width, channels)) for random in batch.random()])
        pixels = batch.original + tf.constant(self.radius_255 * signs, tf.float32)
        return {
            "pixels": pixels,
            "best_pixels": tf.clip_by_value(pixels, 0.0, 255.0),
            "best_loss": tf.fill([len(batch.numbers)], -np.inf),
        }

    def step(self, oracle: Oracle, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """Keep the proposal if it is better, and set one square of the best so far anew."""
        logits = oracle.logits(state["pixels"])
        loss = LOSSES["margin"](logits, batch.labels, batch.targets)
        better = loss > state["best_loss"]
        best = tf.where(better[:, None, None, None], state["pixels"], state["best_pixels"])
        proposal = best.numpy()
        _, height, width, channels = proposal.shape
        side = self.side_px(height, width, index)
        originals = batch.original.numpy()
        for place, random in enumerate(batch.random(index)):
            top = random.integers(0, height - side + 1)
            left = random.integers(0, width - side + 1)
            window = np.s_[place, top : top + side, left : left + side]
            signs = random.choice([-1.0, 1.0], channels)
            proposal[window] = originals[window] + self.radius_255 * signs
        pixels = tf.constant(proposal, tf.float32)
        return logits, {"pixels": pixels, "best_pixels": best, "best_loss": tf.maximum(loss, state["best_loss"])}
