"""Attacks that follow the sign or the direction of the gradient with steps of one length: FGSM, PGD, momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tlkeras.adversarial import norms
from tlkeras.adversarial.attack_base import Attack, Batch, State, Tensor
from tlkeras.adversarial.goals import check_loss
from tlkeras.adversarial.oracle import Oracle
from tlkeras.errors import ConfigError

# A step goes at least this far, as a share of epsilon: on the edge of the ball short steps waste gradients.
_SHORTEST_SHARE = 0.25
# With N steps a way of 2.5 · epsilon can cross the ball from any start (Madry et al. 2018).
_WAY = 2.5


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected gradient descent (Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks").

    step_255: length of a step in pixel units; by default ``epsilon · max(2.5 / steps, ¼)``, at most epsilon.
    random_start: begin at a random place in the ball; a restart after the first always does.
    loss: "ce", "margin" or "dlr". decay: that of the momentum, 0 for none.
    """

    step_255: float | None = None
    random_start: bool = True
    loss: str = "ce"
    decay: float = 0.0

    name: ClassVar[str] = "pgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_255 is not None and not 0 < self.step_255 < float("inf"):
            raise ConfigError("step_255 is in pixel units, above 0", received=self.step_255)
        if not 0 <= self.decay <= 10:
            raise ConfigError("the momentum's decay lies in 0..10", received=self.decay)

    def check(self, classes: int, targeted: bool) -> None:
        """Raise ConfigError when the loss is unknown or the network has too few classes for it."""
        check_loss(self.loss, classes, targeted)

    @property
    def step_length_255(self) -> float:
        """The length of a step in pixel units."""
        if self.step_255 is not None:
            return self.step_255
        return self.radius_255 * min(1.0, max(_WAY / self.steps, _SHORTEST_SHARE))

    def start(self, oracle: Oracle, batch: Batch) -> State:
        """The original, or a random place in the ball."""
        del oracle
        pixels = batch.original
        if self.random_start or batch.restart:
            pixels = pixels + start_change(batch, self.norm, self.radius_255)
        return {"pixels": pixels, "velocity": tf.zeros_like(pixels)} if self.decay else {"pixels": pixels}

    def step(self, oracle: Oracle, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """Follow the gradient, or the momentum that it adds to."""
        del index
        logits, _, direction = oracle.gradient(state["pixels"], batch.labels, batch.targets, self.loss)
        if self.decay:
            # Each gradient counts the same whatever its size (Dong et al. 2018, equation 6).
            size = tf.maximum(norms.lengths(direction, "l1"), 1e-30)
            direction = self.decay * state["velocity"] + direction / norms.per_image(size)
        pixels = state["pixels"] + self.step_length_255 * norms.unit_step(direction, self.norm)
        return logits, {"pixels": pixels, "velocity": direction} if self.decay else {"pixels": pixels}


@dataclass(frozen=True, kw_only=True)
class FGSM(PGD):
    """Fast gradient sign method (Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples").

    It is PGD with one step of the length epsilon that begins at the original; in L2 the fast gradient method.
    """

    steps: int = 1
    random_start: bool = False

    name: ClassVar[str] = "fgsm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps != 1:
            raise ConfigError("fgsm makes one step", received=f"{self.steps} steps", next_step="Take pgd.")


@dataclass(frozen=True, kw_only=True)
class MomentumPGD(PGD):
    """Momentum iterative FGSM, MI-FGSM (Dong et al. 2018, "Boosting Adversarial Attacks with Momentum").

    Its changes fool other networks more often than those of PGD. Steps of ``epsilon / steps``, from the original.
    """

    steps: int = 10
    random_start: bool = False
    decay: float = 1.0

    name: ClassVar[str] = "momentum"

    @property
    def step_length_255(self) -> float:
        """The length of a step in pixel units."""
        return self.step_255 if self.step_255 is not None else self.radius_255 / self.steps


def start_change(batch: Batch, norm: str, epsilon_255: float) -> np.ndarray:
    """A random change for each image, float32 ``[n, H, W, 3]``."""
    shape = tuple(batch.original.shape[1:])
    return np.stack([norms.random_change(random, shape, norm, epsilon_255) for random in batch.random()])
