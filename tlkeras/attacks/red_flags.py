"""Signs that a network only looks robust: its gradients are hidden, or its outputs are not what they should be.

After the checks of AutoAttack (Croce & Hein 2020; Croce et al. 2021) and Carlini et al. 2019, "On Evaluating
Adversarial Robustness".
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.attacks.model import AttackModel, Goal
from tlkeras.attacks.norms import LARGE_EPSILON_255

# A probe of this many images tells enough about the network.
_PROBE = 16
_SUCCESS_AT_LARGE_BUDGET = 0.95


@dataclass(frozen=True)
class RedFlag:
    """A warning: ``code``, one word for programs, and ``words``, a line for people."""

    code: str
    words: str


def flags_of_network(model: AttackModel, pixels: np.ndarray, labels: np.ndarray) -> list[RedFlag]:
    """What answers and gradients tell: random outputs, probabilities given as logits, gradients that are zero.

    ``pixels``: uint8 ``[N, H, W, 3]``, N ≥ 1, of which the first few are used; ``labels``: int ``[N]``.
    """
    probe = pixels[:_PROBE].astype(np.float32)
    first, second = (np.asarray(model.logits(probe)) for _ in range(2))
    found = []
    # Threads may add up in another order; that is no randomness.
    if np.abs(first - second).max() > 1e-3 * max(float(np.abs(first).max()), 1e-30):
        found.append(RedFlag("random_outputs", "the same image gets other answers each time: average over many"))
    if first.min() >= 0 and first.max() <= 1 and np.abs(first.sum(axis=1) - 1).max() < 1e-3:
        words = "the outputs are probabilities, not logits: confident ones have no gradient left"
        found.append(RedFlag("softmax_as_logits", words))
    _, _, gradient = model.gradient(probe, Goal(labels[:_PROBE]), "ce")
    size = np.abs(np.asarray(gradient)).max(axis=(1, 2, 3))
    none = int((size == 0).sum())
    if none:
        words = f"{none} of {len(probe)} images have a gradient of exactly zero: attacks that follow it see nothing"
        found.append(RedFlag("zero_gradient", words))
    return found


def flags_of_sweep(points: Any, norm: str) -> list[RedFlag]:
    """What the sweep tells: ``points`` are those of ``robustness.AttackPoint``, of single methods.

    Success that falls while epsilon grows, a black box that beats every white box, a large budget that is not enough.
    """
    found = []
    by_method: dict[str, list[Any]] = {}
    for point in sorted(points, key=lambda point: point.epsilon_255):
        by_method.setdefault(point.method, []).append(point)
    for method, row in by_method.items():
        for smaller, larger in itertools.pairwise(row):
            if larger.fooled.sum() < smaller.fooled.sum():
                words = (
                    f"{method} fools {int(larger.fooled.sum())} images with ε = {larger.epsilon_255:g}, but "
                    f"{int(smaller.fooled.sum())} with ε = {smaller.epsilon_255:g}: it is stuck"
                )
                found.append(RedFlag("not_monotone", words))
    for epsilon in sorted({point.epsilon_255 for point in points}):
        here = [point for point in points if point.epsilon_255 == epsilon]
        white = [point.fooled for point in here if not point.black_box]
        black = [point for point in here if point.black_box]
        if white and black:
            any_white = np.logical_or.reduce(white)
            only = max(int((point.fooled & ~any_white).sum()) for point in black)
            if max(int(point.fooled.sum()) for point in black) > int(any_white.sum()):
                words = f"at ε = {epsilon:g} the black box fools {only} images that no gradient fools: it is hidden"
                found.append(RedFlag("black_box_beats_white_box", words))
    largest = max((point.epsilon_255 for point in points), default=0.0)
    final = [point for point in points if point.epsilon_255 == largest and not point.black_box]
    # Images that were wrong before cannot be fooled: only the others tell what the attacks are worth.
    right = final[0].right if final else 0
    if right and largest >= LARGE_EPSILON_255[norm]:
        share = int(np.logical_or.reduce([point.fooled for point in final]).sum()) / right
        if share < _SUCCESS_AT_LARGE_BUDGET:
            words = f"even ε = {largest:g} fools only {share:.0%} of {right}: take more steps, or suspect the gradients"
            found.append(RedFlag("large_budget_fails", words))
    return found
