"""Attacks without a budget, which look for the smallest change that does: DeepFool and Carlini & Wagner's.

The changes they find are often smaller than half a pixel unit everywhere, and plain rounding would undo them. So
the change is scaled to the smallest multiple whose rounded image still does what is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tlkeras.adam import adam
from tlkeras.attacks import norms
from tlkeras.attacks.base import Attack, Batch, State, Tensor
from tlkeras.attacks.model import AttackModel, Goal
from tlkeras.errors import ConfigError
from tlkeras.heads.logits import ranked

# The change is tried at 1, 1.5, 1.5² … times its size until its rounded image works, then bisected.
_GROWTH, _GROWTHS, _HALVINGS = 1.5, 12, 7
# The largest change of a pixel over the typical one that Adam can reach in one search.
_REACH = 5.0
# A gradient of zero promises nothing: no change is taken to be further away than this, in pixel units.
_WHOLE_RANGE = 1e5


@dataclass(frozen=True, kw_only=True)
class Minimal(Attack):
    """What attacks after the smallest change share: no budget, and rounding that keeps the change alive."""

    minimal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon_255 is not None:
            raise ConfigError(
                f"{self.name} looks for the smallest change and has no budget",
                received=f"epsilon {self.epsilon_255}",
                next_step="Leave epsilon out.",
            )
        if self.restarts != 1:
            raise ConfigError(f"{self.name} has no random start, so one attempt is all", received=self.restarts)

    def rounded(self, model: AttackModel, pixels: np.ndarray, originals: np.ndarray, goal: Goal) -> np.ndarray:
        """The smallest multiple of each change whose rounded image reaches the goal, uint8 ``[n, H, W, 3]``.

        Where none does, the change is rounded as it is.
        """
        change = pixels - originals

        def at(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            moved = originals + scale.reshape(-1, 1, 1, 1).astype(np.float32) * change
            image = norms.quantise(moved, originals, self.norm, self.radius_255)
            return image, goal.reached(np.asarray(model.logits(image.astype(np.float32))))

        low, high = np.zeros(len(change)), np.ones(len(change))
        best, found = at(high)
        for _ in range(_GROWTHS):
            if found.all():
                break
            low, high = np.where(found, low, high), np.where(found, high, high * _GROWTH)
            image, works = at(high)
            new = works & ~found
            best[new], found = image[new], found | works
        for _ in range(_HALVINGS if found.any() else 0):
            middle = (low + high) / 2
            image, works = at(middle)
            take = works & found
            best[take] = image[take]
            low, high = np.where(works, low, middle), np.where(works, middle, high)
        return best


@dataclass(frozen=True, kw_only=True)
class DeepFool(Minimal):
    """DeepFool (Moosavi-Dezfooli et al. 2016, "DeepFool: a simple and accurate method to fool deep networks").

    The network is taken to be linear; each step crosses the nearest of the boundaries that this gives. With a
    target class only its boundary counts. norm: "l2", or "linf" by the dual norm.

    candidates: how many of the most probable other classes are looked at. overshoot: share added to the change.
    """

    norm: str = "l2"
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02

    name: ClassVar[str] = "deepfool"
    usual_in: ClassVar[tuple[str, ...]] = ("l2",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.candidates <= 1000:
            raise ConfigError("candidates must be 1..1000", received=self.candidates)
        if not 0 <= self.overshoot <= 1:
            raise ConfigError("the overshoot is a share, 0..1", received=self.overshoot)

    def start(self, model: AttackModel, batch: Batch) -> State:
        """The original, and the other classes that are most probable there."""
        if batch.goal.targets is not None:
            rivals = batch.goal.targets[:, None]
        else:
            logits = np.asarray(model.logits(batch.original)).copy()
            logits[np.arange(len(logits)), batch.goal.labels] = -np.inf
            count = min(self.candidates, logits.shape[1] - 1)
            rivals = ranked(logits, count)
        classes = np.concatenate([batch.goal.labels[:, None], rivals], axis=1).astype(np.int32)
        return {"pixels": batch.original, "classes": tf.constant(classes)}

    def step(self, model: AttackModel, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """Cross the nearest boundary of the linear network that agrees with this one here."""
        del index
        logits, gradients = model.logit_gradients(state["pixels"], state["classes"].numpy())
        values = tf.gather(logits, state["classes"], batch_dims=1)
        gaps = values[:, :1] - values[:, 1:]  # how far the label is ahead of each rival
        normals = gradients[:, 1:] - gradients[:, :1]
        shape = tf.shape(normals)
        flat = tf.reshape(normals, [-1, *normals.shape[2:]])
        dual = tf.reshape(norms.lengths(flat, "l1" if self.norm == "linf" else "l2"), shape[:2])
        # A rival that is ahead already is at distance 0, unless another one is what is wanted.
        distance = tf.maximum(gaps, 0.0) / tf.maximum(dual, 1e-12)
        nearest = tf.argmin(distance, axis=1, output_type=tf.int32)
        towards = norms.unit_step(tf.gather(normals, nearest, batch_dims=1), self.norm)
        length = tf.gather(distance, nearest, batch_dims=1) * (1 + self.overshoot) + 1e-3
        return logits, {**state, "pixels": state["pixels"] + norms.per_image(length) * towards}


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Minimal):
    """Carlini & Wagner's L2 attack (2017, "Towards Evaluating the Robustness of Neural Networks", section VI.A).

    Minimises ``‖change / 255‖² − c · min(margin − confidence, 0)`` by Adam in a space where every number is a
    valid pixel (their tanh), and searches for the smallest c that works. Where the paper fixes the first c and
    Adam's rate and takes thousands of steps, both are set here, image by image, from the change that would do if
    the network were linear; the rate falls to nothing by the end of each search.

    searches: values of c that are tried, the steps shared equally among them.
    confidence: the margin in logits that is asked for.
    """

    norm: str = "l2"
    steps: int = 150
    searches: int = 5
    confidence: float = 0.0
    stop_early: bool = False

    name: ClassVar[str] = "cw"
    norms: ClassVar[tuple[str, ...]] = ("l2",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.searches <= self.steps:
            raise ConfigError("searches must lie in 1..steps", received=self.searches)
        if not 0 <= self.confidence < float("inf"):
            raise ConfigError("the confidence is a margin in logits, from 0", received=self.confidence)

    @property
    def search_steps(self) -> int:
        """The steps of one search."""
        return -(-self.steps // self.searches)

    def start(self, model: AttackModel, batch: Batch) -> State:
        """The original in the unbounded space; c and the rate from the linear network that agrees with it here."""
        original = batch.original
        _, lead, uphill = model.gradient(original, batch.goal, "margin")
        slope = tf.maximum(norms.lengths(uphill, "l2"), 1e-12)
        distance = tf.minimum((self.confidence - lead) / slope, _WHOLE_RANGE)
        typical = distance / float(np.sqrt(np.prod(original.shape[1:])))
        # At the linear optimum 2 · change / 255² = c · slope. Adam moves all pixels alike, and the largest change
        # is several times the typical one, so the way of a whole search is that long.
        rate = _REACH * typical / 127.5 * 2 / self.search_steps
        nothing = tf.zeros_like(lead)
        return {
            **_fresh(batch),
            "c": 2 * 2 * distance / 255.0**2 / slope,
            "rate": tf.maximum(rate, 1e-6),
            "c_too_small": nothing,
            "c_enough": nothing + np.inf,
            "worked": nothing > 0,
        }

    def step(self, model: AttackModel, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """A step of Adam; at the end of a search, the next c."""
        within = index % self.search_steps
        pixels, inner = state["pixels"], state["inner"]
        logits, lead, uphill = model.gradient(pixels, batch.goal, "margin")
        wanting = tf.cast(lead <= self.confidence, tf.float32)
        state = {**state, "worked": state["worked"] | (wanting == 0)}
        downhill = 2 * (pixels - batch.original) / 255.0**2 - norms.per_image(state["c"] * wanting) * uphill
        gradient = downhill * 127.5 * (1 - tf.square(tf.tanh(inner)))
        # The guard against division by zero must lie below these small gradients.
        slope, first, second = adam(gradient, state["first_moment"], state["second_moment"], within + 1, 1e-20)
        inner = inner - norms.per_image(state["rate"]) * (1 - within / self.search_steps) * slope
        moved = {"pixels": _bounded(inner), "inner": inner, "first_moment": first, "second_moment": second}
        state = {**state, **moved}
        return logits, self._next_search(batch, state) if within == self.search_steps - 1 else state

    def _next_search(self, batch: Batch, state: State) -> State:
        c, worked = state["c"], state["worked"]
        enough = tf.where(worked, tf.minimum(c, state["c_enough"]), state["c_enough"])
        too_small = tf.where(worked, state["c_too_small"], tf.maximum(c, state["c_too_small"]))
        known = tf.math.is_finite(enough)
        following = tf.where(known, (too_small + tf.where(known, enough, 0.0)) / 2, c * 10)
        bounds = {"c": following, "c_too_small": too_small, "c_enough": enough, "worked": tf.zeros_like(worked)}
        # Where nothing has worked yet, the linear network may have promised too short a way as well.
        rate = tf.where(known, state["rate"], 3 * state["rate"])
        return {**state, **_fresh(batch), **bounds, "rate": rate}


def _fresh(batch: Batch) -> State:
    """Where each search of Carlini & Wagner begins."""
    inner = _unbounded(batch.original)
    nothing = tf.zeros_like(inner)
    return {"pixels": batch.original, "inner": inner, "first_moment": nothing, "second_moment": nothing}


def _unbounded(pixels: Tensor) -> Tensor:
    # Not quite to the edge, where the way back is infinite.
    return tf.atanh((pixels / 127.5 - 1.0) * 0.9999)


def _bounded(inner: Tensor) -> Tensor:
    return (tf.tanh(inner) / 0.9999 + 1.0) * 127.5
