"""What all attacks share: the loop, bounds, rounding, scoring and who is done. An attack only writes its step.

A class with a ``name`` is an attack that everything knows from then on: commands, sweeps and tests read ``METHODS``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tlkeras.attacks import norms
from tlkeras.attacks.model import AttackModel, Goal
from tlkeras.errors import ConfigError, unknown

Tensor = Any
State = dict[str, Tensor]  # what an attack remembers of each image, first axis N; "pixels" is where it stands
Progress = Callable[[int, int], None]

BATCH_SIZE = 16
# Every attack by its name, in the order in which the classes are defined.
METHODS: dict[str, type[Attack]] = {}


@dataclass(frozen=True)
class Batch:
    """The n images that are still under attack.

    original: float32 ``[n, H, W, 3]``. goal: what each of them is to become.
    numbers: the images' places in the whole set, int ``[n]``: their random numbers hang on those alone.
    """

    original: Tensor
    goal: Goal
    numbers: np.ndarray
    seed: int
    restart: int

    def of(self, rows: np.ndarray) -> Batch:
        """Some of the images."""
        return dataclasses.replace(
            self, original=tf.gather(self.original, rows), goal=self.goal.of(rows), numbers=self.numbers[rows]
        )

    def random(self, step: int = -1) -> list[np.random.Generator]:
        """A generator for each image, the same whichever images it shares a batch with."""
        return [
            np.random.default_rng([self.seed, self.restart, step + 1, int(number)]) for number in self.numbers.tolist()
        ]


@dataclass(frozen=True)
class Found:
    """What an attack came to, image by image.

    adversarial: uint8 ``[N, H, W, 3]``, within the budget; the strongest attempt where it did not succeed.
    raw_success: bool ``[N]``, whether it succeeded before rounding to 8 bits. success: bool ``[N]``, after it.
    steps: int ``[N]``, steps made until it was settled, restarts included.
    """

    adversarial: np.ndarray
    raw_success: np.ndarray
    success: np.ndarray
    steps: np.ndarray


@dataclass(frozen=True)
class _Progress:
    """What there is so far of N images uint8 ``[N, H, W, 3]``; ``margins``: of the strongest, float ``[N]``."""

    originals: np.ndarray
    best: Found
    margins: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack with its parameters.

    norm: "linf" or "l2". epsilon_255: the budget in pixel units; by default 4 in L∞ and 765 in L2, which is 3 for
    pixels in 0..1 (the budgets that RobustBench takes for ImageNet).
    steps: at most so many. restarts: attempts, each from another random start, for images that hold out.
    stop_early: an image leaves the batch once its rounded version does what is wanted; else all steps are made and
    the strongest version is kept. seed: same seed, same result.

    Raises: ConfigError for a parameter that it cannot have.
    """

    norm: str = "linf"
    epsilon_255: float | None = None
    steps: int = 20
    restarts: int = 1
    stop_early: bool = True
    seed: int = 0

    name: ClassVar[str]
    norms: ClassVar[tuple[str, ...]] = norms.NORMS
    # The norms in which a sweep of robustness tries it unless told otherwise.
    usual_in: ClassVar[tuple[str, ...]] = ()
    # An attack without a budget looks for the smallest change instead.
    minimal: ClassVar[bool] = False
    black_box: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            METHODS[cls.name] = cls

    def __post_init__(self) -> None:
        if self.norm not in self.norms:
            if self.norm in norms.NORMS:
                raise ConfigError(f"{self.name} attacks in {' or '.join(self.norms)}", received=self.norm)
            raise unknown("norm", self.norm, self.norms)
        if not self.minimal:
            given = norms.USUAL_EPSILON_255[self.norm] if self.epsilon_255 is None else self.epsilon_255
            object.__setattr__(self, "epsilon_255", float(given))  # a NumPy number would widen all pixels
            norms.check_norm(self.norm, self.radius_255)
        for name in ("steps", "restarts"):
            if not 1 <= getattr(self, name) <= 1_000_000:
                raise ConfigError(f"{name} must be at least 1", received=getattr(self, name))
        if not 0 <= self.seed < 2**63:
            raise ConfigError("the seed is a whole number from 0", received=self.seed)

    @property
    def radius_255(self) -> float:
        """The radius of the ball: epsilon, and infinite for attacks that look for the smallest change."""
        return float("inf") if self.minimal or self.epsilon_255 is None else self.epsilon_255

    def to_json(self) -> dict[str, Any]:
        """The name and all parameters, plain values."""
        return {"method": self.name, **dataclasses.asdict(self)}

    def check(self, classes: int, targeted: bool) -> None:  # noqa: B027 (most attacks have nothing to refuse)
        """Raise ConfigError when a network with so many classes cannot be attacked in this way."""

    @abstractmethod
    def start(self, model: AttackModel, batch: Batch) -> State:
        """Where to begin: a dictionary with at least ``pixels``, float32 ``[n, H, W, 3]``."""

    @abstractmethod
    def step(self, model: AttackModel, batch: Batch, state: State, index: int) -> tuple[Tensor, State]:
        """One step: the logits at ``state["pixels"]``, and the next state, which the base projects into the ball."""

    def ends(self, state: State) -> tuple[Tensor, ...]:
        """Pixels that may be the strongest at the end, float32 ``[n, H, W, 3]`` each; rounded, the best one counts."""
        return (state["pixels"],)

    def run(
        self,
        model: AttackModel,
        originals: np.ndarray,
        goal: Goal,
        *,
        batch_size: int = BATCH_SIZE,
        progress: Progress | None = None,
    ) -> Found:
        """Attack images uint8 ``[N, H, W, 3]``, in batches; any N, also none.

        Raises: ConfigError when the goal or the network does not suit the attack.
        """
        count = len(originals)
        parts = []
        for start in range(0, count, batch_size):
            rows = np.arange(start, min(start + batch_size, count))
            parts.append(self._run_batch(model, originals[rows], goal.of(rows), rows))
            if progress is not None:
                progress(int(rows[-1]) + 1, count)
        if not parts:
            nothing = np.zeros(0, bool)
            return Found(originals.copy(), nothing, nothing, np.zeros(0, np.int64))
        return Found(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(Found)))

    def _run_batch(self, model: AttackModel, originals: np.ndarray, goal: Goal, numbers: np.ndarray) -> Found:
        count = len(originals)
        best = Found(originals.copy(), np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, np.int64))
        so_far = _Progress(originals, best, np.full(count, -np.inf))
        whole = Batch(tf.cast(originals, tf.float32), goal, numbers, self.seed, 0)
        for restart in range(self.restarts):
            rows = np.flatnonzero(~best.success) if self.stop_early else np.arange(count)
            if not len(rows):
                break
            self._attempt(model, dataclasses.replace(whole.of(rows), restart=restart), rows, so_far)
        return best

    def _attempt(self, model: AttackModel, batch: Batch, rows: np.ndarray, so_far: _Progress) -> None:
        """One start and its steps for the images ``rows``; what comes of them is noted in ``so_far``."""
        best = so_far.best
        state = self._bounded(self.start(model, batch), batch)
        kept = Strongest(batch, self.norm if self.minimal else None)
        for index in range(self.steps + 1):
            pixels = state["pixels"]
            if index < self.steps:
                logits, state = self.step(model, batch, state, index)
                state = self._bounded(state, batch)
            else:
                logits = model.logits(pixels)
            scores = np.asarray(logits)
            best.raw_success[rows] |= batch.goal.reached(scores)
            best.steps[rows] += index < self.steps
            if not self.stop_early:
                kept.note(pixels, scores)
                continue
            staying = self._settle(model, batch, rows, pixels, scores, so_far)
            if not staying.all():
                chosen = np.flatnonzero(staying)
                rows, batch = rows[chosen], batch.of(chosen)
                state = {name: tf.gather(value, chosen) for name, value in state.items()}
            if not len(rows):
                return
        for pixels in self.ends(state) if self.stop_early else (kept.pixels,):
            self._finish(model, batch, rows, pixels, so_far)

    def _bounded(self, state: State, batch: Batch) -> State:
        pixels = norms.project(state["pixels"], batch.original, self.norm, self.radius_255)
        return {**state, "pixels": pixels}

    def _settle(
        self, model: AttackModel, batch: Batch, rows: np.ndarray, pixels: Tensor, scores: np.ndarray, so_far: _Progress
    ) -> np.ndarray:
        """Images whose rounded version does it are done; which stay is returned, bool ``[n]``."""
        staying = np.ones(len(rows), bool)
        candidates = np.flatnonzero(batch.goal.reached(scores))
        if len(candidates):
            goal, originals = batch.goal.of(candidates), so_far.originals[rows[candidates]]
            rounded = self.rounded(model, tf.gather(pixels, candidates).numpy(), originals, goal)
            good = goal.reached(np.asarray(model.logits(rounded.astype(np.float32))))
            so_far.best.adversarial[rows[candidates[good]]] = rounded[good]
            so_far.best.success[rows[candidates[good]]] = True
            staying[candidates[good]] = False
        return staying

    def _finish(self, model: AttackModel, batch: Batch, rows: np.ndarray, pixels: Tensor, so_far: _Progress) -> None:
        """Round and score what is left at the end; the strongest of all ends and restarts is kept."""
        rounded = self.rounded(model, np.asarray(pixels), so_far.originals[rows], batch.goal)
        scores = np.asarray(model.logits(rounded.astype(np.float32)))
        margin = batch.goal.margin(scores)
        better = margin > so_far.margins[rows]
        so_far.margins[rows[better]] = margin[better]
        so_far.best.adversarial[rows[better]] = rounded[better]
        so_far.best.success[rows] |= batch.goal.reached(scores)

    def rounded(self, model: AttackModel, pixels: np.ndarray, originals: np.ndarray, goal: Goal) -> np.ndarray:
        """Pixels float32 ``[n, H, W, 3]`` as uint8 within the budget."""
        del model, goal
        rounded = norms.quantise(pixels, originals, self.norm, self.radius_255)
        if not norms.inside(rounded, originals, self.norm, self.radius_255).all():
            raise RuntimeError(f"{self.name} left its budget of {self.radius_255} in {self.norm}")
        return rounded


class Strongest:
    """The best that each image has been so far: furthest beyond the boundary, or beyond it by the smallest change."""

    def __init__(self, batch: Batch, smallest_in: str | None) -> None:
        """``smallest_in``: the norm of which the smallest is the best, or None."""
        self.batch, self.smallest_in = batch, smallest_in
        self.pixels = batch.original
        self._scores = np.full(len(batch.numbers), -np.inf)

    def note(self, pixels: Tensor, logits: np.ndarray) -> None:
        """Compare with where the images stand now."""
        score = self.batch.goal.margin(logits).astype(np.float64)
        if self.smallest_in is not None:
            length = np.asarray(norms.lengths(pixels - self.batch.original, self.smallest_in), np.float64)
            # Any success goes before any failure, and a smaller one before a larger one.
            score = np.where(self.batch.goal.reached(logits), 1e9 - length, np.minimum(score, 0.0))
        better = score > self._scores
        self._scores = np.where(better, score, self._scores)
        if better.all():
            self.pixels = pixels
        elif better.any():
            self.pixels = tf.where(better[:, None, None, None], pixels, self.pixels)
