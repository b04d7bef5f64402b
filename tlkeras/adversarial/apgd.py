"""Auto-PGD: steps of a length that adapts itself, so that there is nothing to tune but the number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tlkeras.adversarial import norms
from tlkeras.adversarial.attack_base import Attack, Batch, State, Tensor
from tlkeras.adversarial.goals import check_loss
from tlkeras.adversarial.gradient_attacks import start_change
from tlkeras.adversarial.oracle import Oracle

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

    def start(self, oracle: Oracle, batch: Batch) -> State:
        """A random place in the ball, and empty notes of the best place so far."""
        del oracle
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

    def step(self, oracle: Oracle, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """Evaluate, halve the length where it no longer pays, and move with momentum."""
        pixels = state["pixels"]
        logits, loss, gradient = oracle.gradient(pixels, batch.labels, batch.targets, self.loss)
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
    """APGD on the difference of logits ratio (the same paper, section 4), towards a target as ``goals`` says."""

    loss: str = "dlr"

    name: ClassVar[str] = "apgd-dlr"
