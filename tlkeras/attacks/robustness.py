"""How robust a network is: accuracy under attacks over a sweep of budgets, and under common corruptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tlkeras.attacks.attacker import METHODS, Attacker, make
from tlkeras.attacks.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tlkeras.attacks.norms import LARGE_EPSILON_255
from tlkeras.attacks.red_flags import RedFlag, flags_of_network, flags_of_sweep
from tlkeras.data.audit import audit
from tlkeras.data.dataset import LabelledImages
from tlkeras.errors import ConfigError, DataError, unknown
from tlkeras.evaluation.metrics import accuracy_interval
from tlkeras.progress import Advance, Reporter, Silent
from tlkeras.target import Target

# Budgets that are tried by default, by norm: each twice the one before.
EPSILONS_255 = {
    norm: tuple(round(large / 2**halvings, 1) for halvings in range(5, -1, -1))
    for norm, large in LARGE_EPSILON_255.items()
}
WORST = "worst case"


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


def usual_methods(norm: str) -> tuple[str, ...]:
    """The attacks that are tried by default in a norm."""
    return tuple(name for name, kind in METHODS.items() if norm in kind.usual_in)


@dataclass(frozen=True)
class RobustnessConfig:
    """What to measure.

    methods: names of attacks; corruptions: names; either may be empty, not both. epsilons_255: the budgets, pixel
    units. Methods and budgets are those usual for the norm when None. steps: of each attack, its own default when
    None. images: how many of the data set, drawn with seed.

    Raises: ConfigError for an unknown name or an impossible value.
    """

    methods: tuple[str, ...] | None = None
    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    epsilons_255: tuple[float, ...] | None = None
    norm: str = "linf"
    steps: int | None = None
    images: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.norm not in EPSILONS_255:
            raise unknown("norm", self.norm, EPSILONS_255)
        if not self.attacks and not self.corruptions:
            raise ConfigError("nothing is left to measure", next_step="Name an attack or a corruption.")
        for name in self.corruptions:
            if name not in CORRUPTIONS:
                raise unknown("corruption", name, CORRUPTIONS)
        if self.attacks and not self.budgets_255:
            raise ConfigError("attacks need at least one epsilon", received="none")
        if self.images < 1:
            raise ConfigError("robustness is measured on at least one image", received=self.images)
        for name in self.attacks:
            for epsilon_255 in self.budgets_255:
                self.attack(name, epsilon_255)

    @property
    def attacks(self) -> tuple[str, ...]:
        """The names of the attacks, defaults resolved, each once."""
        return tuple(dict.fromkeys(usual_methods(self.norm) if self.methods is None else self.methods))

    @property
    def budgets_255(self) -> tuple[float, ...]:
        """The budgets, defaults resolved, ascending."""
        return tuple(sorted(set(EPSILONS_255[self.norm] if self.epsilons_255 is None else self.epsilons_255)))

    def attack(self, name: str, epsilon_255: float) -> Any:
        """One of the attacks with one of the budgets."""
        minimal = name in METHODS and METHODS[name].minimal
        steps = None if name == "fgsm" else self.steps
        return make(name, norm=self.norm, epsilon_255=None if minimal else epsilon_255, steps=steps, seed=self.seed)


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
    total = len(config.corruptions) * len(SEVERITIES) * len(pixels)
    if not total:
        return points
    with reporter.step("corrupt") as progress:
        for name in config.corruptions:
            for severity in SEVERITIES:
                logits = attacker.target.batched_logits(corrupt(pixels, name, severity, seed=config.seed))
                points.append(CorruptionPoint(*_share(logits.argmax(axis=1) == labels), name, severity))
                progress(len(points) * len(pixels), total)
    return points
