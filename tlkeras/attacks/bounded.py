"""Attacks within a budget: FGSM, PGD and momentum with steps of one length, Auto-PGD, and Square without gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tlkeras.attacks import norms
from tlkeras.attacks.base import Attack, Batch, State, Tensor
from tlkeras.attacks.model import LOSSES, AttackModel, check_loss
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
    usual_in: ClassVar[tuple[str, ...]] = norms.NORMS

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

    def start(self, model: AttackModel, batch: Batch) -> State:
        """The original, or a random place in the ball."""
        del model
        pixels = batch.original
        if self.random_start or batch.restart:
            pixels = pixels + start_change(batch, self.norm, self.radius_255)
        return {"pixels": pixels, "velocity": tf.zeros_like(pixels)} if self.decay else {"pixels": pixels}

    def step(self, model: AttackModel, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """Follow the gradient, or the momentum that it adds to."""
        del index
        logits, _, direction = model.gradient(state["pixels"], batch.goal, self.loss)
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
    usual_in: ClassVar[tuple[str, ...]] = ()

    @property
    def step_length_255(self) -> float:
        """The length of a step in pixel units."""
        return self.step_255 if self.step_255 is not None else self.radius_255 / self.steps


def start_change(batch: Batch, norm: str, epsilon_255: float) -> np.ndarray:
    """A random change for each image, float32 ``[n, H, W, 3]``."""
    shape = tuple(batch.original.shape[1:])
    return np.stack([norms.random_change(random, shape, norm, epsilon_255) for random in batch.random()])


# The constants of the paper: how much of the last move goes on, the share of steps that must have improved the
# loss since the last checkpoint, and where checkpoints stand as shares of all steps.
_MOMENTUM = 0.75
_IMPROVED_SHARE = 0.75
_FIRST_CHECKPOINT, _SHORTER, _SHORTEST = 0.22, 0.03, 0.06
# The first step in units of epsilon, and over how many steps the paper takes it; below half an epsilon few steps
# would not cross the ball.
_FIRST_LENGTH, _STEPS_OF_THE_PAPER, _SHORTEST_FIRST_LENGTH = 2.0, 100, 0.5


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """APGD (Croce & Hein 2020, "Reliable Evaluation of Adversarial Robustness with an Ensemble of … Attacks").

    With loss "ce" it is APGD-CE; "dlr" (see ``APGDDLR``) and "margin" work as well.

    One thing is not as in the paper: with fewer than its 100 steps the first step is shorter than 2 epsilon (see
    ``first_length_255``).
    """

    loss: str = "ce"

    name: ClassVar[str] = "apgd-ce"
    usual_in: ClassVar[tuple[str, ...]] = norms.NORMS

    def check(self, classes: int, targeted: bool) -> None:
        """Raise ConfigError when the loss is unknown or the network has too few classes for it."""
        check_loss(self.loss, classes, targeted)

    @cached_property
    def checkpoints(self) -> tuple[int, ...]:
        """The steps at which the length may be halved (section 3.1, "Selection of the step size")."""
        at, gap = _FIRST_CHECKPOINT, _FIRST_CHECKPOINT
        found = [0]
        while at <= 1:
            found.append(int(np.ceil(at * self.steps)))
            gap = max(gap - _SHORTER, _SHORTEST)
            at += gap
        return tuple(sorted(set(found)))

    @property
    def first_length_255(self) -> float:
        """The length of the first step in pixel units: 2 epsilon from 100 steps on, in proportion below, at least ½.

        A length is halved at checkpoints only, and those stand at shares of all steps: from 2 epsilon down to what
        pays takes more than half of them, however few there are. Ten steps would be spent before it is found.
        """
        share = _FIRST_LENGTH * self.steps / _STEPS_OF_THE_PAPER
        return self.radius_255 * min(_FIRST_LENGTH, max(share, _SHORTEST_FIRST_LENGTH))

    def start(self, model: AttackModel, batch: Batch) -> State:
        """A random place in the ball, and empty notes of the best place so far."""
        del model
        pixels = batch.original + start_change(batch, self.norm, self.radius_255)
        pixels = norms.project(pixels, batch.original, self.norm, self.radius_255)
        count = len(batch.numbers)
        nothing = tf.fill([count], -np.inf)
        zero = tf.zeros([count])
        return {
            "pixels": pixels,
            "previous": pixels,
            "best_pixels": pixels,
            "best_gradient": tf.zeros_like(pixels),
            "best_loss": nothing,
            "last_loss": tf.fill([count], np.inf),  # the first evaluation improves on nothing
            "length": tf.fill([count], self.first_length_255),
            "improved": zero,  # steps since the last checkpoint that raised the loss
            "length_was_halved": tf.ones([count], tf.bool),
            "best_at_checkpoint": nothing,
        }

    def ends(self, state: State) -> tuple[Tensor, ...]:
        """Where it stands, and the best place that it has seen: momentum may have gone past it."""
        return state["pixels"], state["best_pixels"]

    def step(self, model: AttackModel, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """Evaluate, halve the length where it no longer pays, and move with momentum."""
        pixels = state["pixels"]
        logits, loss, gradient = model.gradient(pixels, batch.goal, self.loss)
        state = {**state, "improved": state["improved"] + tf.cast(loss > state["last_loss"], tf.float32)}
        better = norms.per_image(loss > state["best_loss"])
        state["best_pixels"] = tf.where(better, pixels, state["best_pixels"])
        state["best_gradient"] = tf.where(better, gradient, state["best_gradient"])
        state["best_loss"] = tf.maximum(loss, state["best_loss"])
        state["last_loss"] = loss
        # The best place and its gradient are known: going back there costs no other pass.
        place, direction, previous = pixels, gradient, state["previous"]
        if index in self.checkpoints[1:]:
            halved, state = self._check(state, index)
            again = norms.per_image(halved)
            place = tf.where(again, state["best_pixels"], place)
            direction = tf.where(again, state["best_gradient"], direction)
            previous = tf.where(again, state["best_pixels"], previous)
        ahead = place + norms.per_image(state["length"]) * norms.unit_step(direction, self.norm)
        ahead = norms.project(ahead, batch.original, self.norm, self.radius_255)
        share = 1.0 if index == 0 else _MOMENTUM
        moved = place + share * (ahead - place) + (1 - share) * (place - previous)
        return logits, {**state, "pixels": moved, "previous": place}

    def _check(self, state: State, index: int) -> tuple[Any, State]:
        """Conditions 1 and 2 of the paper: which images halve their length, bool ``[n]``, and the notes after it."""
        last = max(point for point in self.checkpoints if point < index)
        seldom = state["improved"] < _IMPROVED_SHARE * (index - last)
        stuck = ~state["length_was_halved"] & (state["best_loss"] <= state["best_at_checkpoint"])
        halved = seldom | stuck
        noted = {
            "length": tf.where(halved, state["length"] / 2, state["length"]),
            "length_was_halved": halved,
            "best_at_checkpoint": state["best_loss"],
            "improved": tf.zeros_like(state["improved"]),
        }
        return halved, {**state, **noted}


@dataclass(frozen=True, kw_only=True)
class APGDDLR(APGD):
    """APGD on the difference of logits ratio (the same paper, section 4), towards a target as ``logit_ratio`` says."""

    loss: str = "dlr"

    name: ClassVar[str] = "apgd-dlr"
    usual_in: ClassVar[tuple[str, ...]] = ()


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
    usual_in: ClassVar[tuple[str, ...]] = ("linf",)
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

    def start(self, model: AttackModel, batch: Batch) -> State:
        """Vertical stripes of width 1, each at plus or minus epsilon."""
        del model
        _, _, width, channels = batch.original.shape
        signs = np.stack([random.choice([-1.0, 1.0], (1, width, channels)) for random in batch.random()])
        pixels = batch.original + tf.constant(self.radius_255 * signs, tf.float32)
        return {
            "pixels": pixels,
            "best_pixels": tf.clip_by_value(pixels, 0.0, 255.0),
            "best_loss": tf.fill([len(batch.numbers)], -np.inf),
        }

    def step(self, model: AttackModel, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """Keep the proposal if it is better, and set one square of the best so far anew."""
        logits = model.logits(state["pixels"])
        loss = LOSSES["margin"](logits, batch.goal.labels, batch.goal.targets)
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
