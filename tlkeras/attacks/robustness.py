"""How robust a network is: accuracy under attacks over a sweep of budgets, and under common corruptions.

Red flags are signs that it only looks robust: its gradients are hidden, or its outputs are not what they should be.
They follow the checks of AutoAttack (Croce & Hein 2020; Croce et al. 2021) and Carlini et al. 2019, "On Evaluating
Adversarial Robustness".
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tlkeras.attacks import RobustnessConfig
from tlkeras.attacks.attacker import METHODS, Attacker
from tlkeras.attacks.corruptions import SEVERITIES, corrupt
from tlkeras.attacks.model import AttackModel, Goal
from tlkeras.attacks.norms import LARGE_EPSILON_255
from tlkeras.data.audit import audit
from tlkeras.data.dataset import LabelledImages
from tlkeras.errors import DataError
from tlkeras.evaluation.metrics import accuracy_interval
from tlkeras.progress import Advance, Reporter, Silent
from tlkeras.target import Target

WORST = "worst case"
# A probe of this many images tells enough about the network.
_PROBE = 16
_SUCCESS_AT_LARGE_BUDGET = 0.95


@dataclass(frozen=True)
class Accuracy:
    """A share of images that the network has right, and its 95 % interval."""

    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class AttackPoint(Accuracy):
    """Accuracy over all images under one attack with one budget.

    fooled: bool ``[N]``, images that were right and, after PNG and back, are not; fooled_before_rounding: the same for
    float pixels, which is what budgets below 1 of 255 can be told by. right: how many images were right before.
    mean_steps: steps that the attack took for each image that was right.
    """

    method: str
    black_box: bool
    epsilon_255: float
    right: int
    fooled: np.ndarray
    fooled_before_rounding: np.ndarray
    mean_steps: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        count = int(self.fooled.sum())
        raw = int(self.fooled_before_rounding.sum())
        return {
            "method": self.method,
            "epsilon_255": self.epsilon_255,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "right_before": self.right,
            "fooled": count,
            "success_rate": count / self.right if self.right else None,
            "success_rate_before_rounding": raw / self.right if self.right else None,
            "mean_steps": round(self.mean_steps, 2),
        }


@dataclass(frozen=True)
class CorruptionPoint(Accuracy):
    """Accuracy over all images under one corruption at one severity."""

    corruption: str
    severity: int


@dataclass(frozen=True)
class RedFlag:
    """A warning: ``code``, one word for programs, and ``words``, a line for people."""

    code: str
    words: str


@dataclass(frozen=True)
class Robustness:
    """What was measured on N images; ``attacks`` and ``corruptions`` in the order in which they were asked for.

    attacks holds, after those of each method, the worst case over all methods where there are several.
    """

    network: str
    images: int
    norm: str
    clean: Accuracy
    attacks: tuple[AttackPoint, ...]
    corruptions: tuple[CorruptionPoint, ...]
    flags: tuple[RedFlag, ...]
    parameters: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "network": self.network,
            "images": self.images,
            "norm": self.norm,
            "clean": dataclasses.asdict(self.clean),
            "attacks": [point.to_json() for point in self.attacks],
            "corruptions": [dataclasses.asdict(point) for point in self.corruptions],
            "flags": [dataclasses.asdict(flag) for flag in self.flags],
            "parameters": self.parameters,
        }


def robustness(
    network: Any, dataset: LabelledImages, config: RobustnessConfig | None = None, *, reporter: Reporter | None = None
) -> Robustness:
    """Measure a network on a data set: on its test split where it has one, else on all of it.

    ``network``: see ``Attacker``. The classes of the data are found among the network's by name.

    Raises: DataError when no image is left; ConfigError for a class that the network does not have.
    """
    config, reporter = config or RobustnessConfig(), reporter or Silent()
    attacker = Attacker(network)
    pixels, labels = chosen_images(attacker.target, dataset, config, reporter)
    return measure(attacker, pixels, labels, config, reporter=reporter)


def measure(
    attacker: Attacker,
    pixels: np.ndarray,
    labels: np.ndarray,
    config: RobustnessConfig,
    *,
    reporter: Reporter | None = None,
) -> Robustness:
    """The same on fitted images uint8 ``[N, S, S, 3]`` with labels int ``[N]``, N ≥ 1."""
    reporter = reporter or Silent()
    classes = len(attacker.target.class_names)
    for name in config.attacks:
        config.attack(name, config.budgets_255[0]).check(classes, targeted=False)
    right = attacker.scores_saved(pixels).argmax(axis=1) == labels
    flags = flags_of_network(attacker.model, pixels, labels) if config.attacks else []
    points: list[AttackPoint] = []
    for name in config.attacks:
        points += _sweep(attacker, pixels, labels, right, name, config, reporter)
    if len(config.attacks) > 1:
        points += _worst(points, right, config)
    single = [point for point in points if point.method != WORST]
    return Robustness(
        network=attacker.target.name,
        images=len(pixels),
        norm=config.norm,
        clean=Accuracy(*_share(right)),
        attacks=tuple(points),
        corruptions=tuple(_corrupted(attacker, pixels, labels, config, reporter)),
        flags=(*flags, *flags_of_sweep(single, config.norm)),
        parameters={name: config.attack(name, config.budgets_255[0]).to_json() for name in config.attacks},
    )


def chosen_images(
    target: Target, dataset: LabelledImages, config: RobustnessConfig, reporter: Reporter
) -> tuple[np.ndarray, np.ndarray]:
    """Images of the data set that can be read, at most ``config.images``, drawn with its seed.

    Returns pixels uint8 ``[N, S, S, 3]`` as the network takes them and labels int32 ``[N]`` among its classes.

    Raises: as ``robustness``.
    """
    if (dataset.splits == "test").any():
        dataset = dataset.in_split("test")
    if not len(dataset):
        raise DataError("robustness is measured on at least one image", received="none")
    place = np.array([target.class_index(name) for name in dataset.class_names], np.int32)
    order = np.random.default_rng(config.seed).permutation(len(dataset))
    good = np.zeros(0, np.int64)
    # Others are drawn for those that cannot be read.
    while len(good) < config.images and len(order):
        drawn, order = np.split(order, [config.images - len(good)])
        with reporter.step("audit") as progress:
            checked = audit(dataset.subset(drawn), progress=progress)
        good = np.concatenate([good, drawn[checked.kept_mask]])
    if not len(good):
        raise DataError("no image of the data set can be read", received=checked.summary())
    kept = dataset.subset(np.sort(good))
    pixels = np.stack([np.rint(target.load(path)).astype(np.uint8) for path in kept.paths])
    return pixels, place[kept.labels]


def _share(right: np.ndarray) -> tuple[float, tuple[float, float]]:
    count = int(right.sum())
    return count / len(right), accuracy_interval(count, len(right))


def _sweep(
    attacker: Attacker,
    pixels: np.ndarray,
    labels: np.ndarray,
    right: np.ndarray,
    name: str,
    config: RobustnessConfig,
    reporter: Reporter,
) -> list[AttackPoint]:
    points = []
    minimal = METHODS[name].minimal
    total = len(config.budgets_255) * int(right.sum())
    with reporter.step(name) as progress:
        done = 0
        result = None
        for epsilon_255 in config.budgets_255:
            # An attack after the smallest change is made once; its changes count where they fit into the budget.
            if result is None or not minimal:
                method = config.attack(name, epsilon_255)
                counted = partial(_advance, progress, done, total)
                result = attacker.attack(pixels, method, labels=labels, progress=counted)
            done += int(right.sum())
            progress(done, total)
            fooled, raw = result.success, result.attacked & result.raw_success
            if minimal:
                length = getattr(result, f"{config.norm}_255")
                fooled, raw = fooled & (length <= epsilon_255), raw & (length <= epsilon_255)
            steps = float(result.steps[result.attacked].mean()) if result.attacked.any() else 0.0
            black_box = METHODS[name].black_box
            share = _share(right & ~fooled)
            points.append(AttackPoint(*share, name, black_box, epsilon_255, int(right.sum()), fooled, raw, steps))
    return points


def _advance(progress: Advance, before: int, total: int, done: int, of: int) -> None:
    """The progress of one attack as that of the whole sweep."""
    del of
    progress(before + done, total)


def _worst(points: Sequence[AttackPoint], right: np.ndarray, config: RobustnessConfig) -> list[AttackPoint]:
    """An image counts as fooled when any attack fools it."""
    worst = []
    for epsilon_255 in config.budgets_255:
        here = [point for point in points if point.epsilon_255 == epsilon_255]
        fooled = np.logical_or.reduce([point.fooled for point in here])
        raw = np.logical_or.reduce([point.fooled_before_rounding for point in here])
        steps = sum(point.mean_steps for point in here)
        share = _share(right & ~fooled)
        worst.append(AttackPoint(*share, WORST, False, epsilon_255, int(right.sum()), fooled, raw, steps))
    return worst


def _corrupted(
    attacker: Attacker, pixels: np.ndarray, labels: np.ndarray, config: RobustnessConfig, reporter: Reporter
) -> list[CorruptionPoint]:
    points: list[CorruptionPoint] = []
    total = len(config.corruptions or ()) * len(SEVERITIES) * len(pixels)
    if not total:
        return points
    with reporter.step("corrupt") as progress:
        for name in config.corruptions or ():
            for severity in SEVERITIES:
                logits = attacker.target.batched_logits(corrupt(pixels, name, severity, seed=config.seed))
                points.append(CorruptionPoint(*_share(logits.argmax(axis=1) == labels), name, severity))
                progress(len(points) * len(pixels), total)
    return points


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
    """What the sweep tells: ``points`` are those of single methods.

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
