"""Networks side by side on one set of photos: how accurate, how quick, how large, and which to take."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tlkeras import backbones
from tlkeras.backbones.table import OWN_FIT
from tlkeras.backbones.weights import PRETRAINED
from tlkeras.choosing.measure import Measured, Photos, audited, measure, stratified
from tlkeras.choosing.transferability import Transferability, transferability
from tlkeras.data.dataset import LabelledImages
from tlkeras.engines import ENGINES
from tlkeras.errors import ConfigError, DataError, WeightsError, unknown
from tlkeras.evaluation.metrics import paired_interval
from tlkeras.machine import usable_cpus
from tlkeras.progress import Reporter
from tlkeras.training.config import TrainConfig

IMAGES = 1000
# Networks that are worth a try, from the quickest to the slowest: one or two of each family of that size.
BUDGETS: dict[str, tuple[str, ...]] = {
    "small": (
        "tlkeras_tiny",
        "mobilenet_0.25",
        "mobilenet_v2_0.35",
        "mobilenet_v3_small",
        "mobilenet_0.75",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "efficientnet_lite0",
        "efficientnet_b0",
    ),
    "medium": (
        "mobilenet_v2",
        "mobilenet_v3_large",
        "efficientnet_lite2",
        "efficientnet_v2_b0",
        "efficientnet_v2_b3",
        "densenet121",
        "resnet50_v2",
        "xception",
    ),
    "large": (
        "mobilenet_v2",
        "efficientnet_v2_b3",
        "efficientnet_v2_s",
        "resnet101_v2",
        "inception_resnet_v2",
        "convnext_tiny",
        "convnext_base",
        "efficientnet_v2_m",
    ),
}


@dataclass(frozen=True)
class CompareConfig:
    """What to compare.

    backbones: names of ``tlkeras backbones``, or NAME=FILE for own weights of that network.
    images: how many photos are drawn at most, classes keeping their shares.
    fit, validation_fraction, test_fraction, seed, engine: as in training. size_px: of every network, its own by
    default.

    Raises: ConfigError for no network, one named twice, an unknown name, or a value out of range.
    """

    backbones: tuple[str, ...] = BUDGETS["small"]
    images: int = IMAGES
    size_px: int | None = None
    fit: str = OWN_FIT
    validation_fraction: float = 0.15
    test_fraction: float | None = None
    seed: int = 0
    engine: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbones", tuple(self.backbones))
        if not self.backbones:
            raise ConfigError("a comparison needs at least one network", next_step="'tlkeras backbones' lists all.")
        if len(set(self.backbones)) != len(self.backbones):
            raise ConfigError("each network is compared once", received=", ".join(self.backbones))
        for name in self.backbones:
            backbones.get(name.partition("=")[0])
        # What no network could do anything about is refused, not listed as a reason to skip each.
        self._options(size_px=None)
        if self.engine not in ("auto", *ENGINES):
            raise unknown("engine", self.engine, ("auto", *ENGINES))
        if self.images < 20:
            raise ConfigError("a comparison needs at least 20 photos", received=self.images)

    def recipe(self, contender: str) -> TrainConfig:
        """The training options by which one of the networks gets its features."""
        name, _, weights = contender.partition("=")
        return self._options(backbone=name, weights=weights or PRETRAINED)

    def _options(self, **given: Any) -> TrainConfig:
        options = asdict(self)
        del options["backbones"], options["images"]
        return TrainConfig(**{**options, **given})


@dataclass(frozen=True)
class Recommendation:
    """The network to take and the most accurate one, by name, and why in one sentence.

    ``difference`` and its 95 % ``interval``: accuracy of the most accurate less that of the recommended, in -1..1,
    over the same photos (paired bootstrap). ``front``: the networks than which none is both quicker and more
    accurate, quickest first.
    """

    name: str
    best: str
    difference: float
    interval: tuple[float, float]
    front: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Networks that were measured on the same photos, in the order asked for; ``skipped`` holds name and reason.

    ``chance``: share, 0..1, of the most frequent class. ``transfers`` is aligned with ``measured``.
    """

    data: str
    class_names: tuple[str, ...]
    images: int
    of_images: int
    threads: int
    chance: float
    measured: tuple[Measured, ...]
    transfers: tuple[Transferability, ...]
    skipped: tuple[tuple[str, str], ...]
    recommendation: Recommendation
    seconds: float

    @property
    def transfer(self) -> Transferability:
        """What is said of the data: by the features of the network that is recommended."""
        return self.transfers[[m.name for m in self.measured].index(self.recommendation.name)]

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras compare --json`` prints."""
        rows = [
            {**m.to_json(), "transfer": asdict(t), "pareto": m.name in self.recommendation.front}
            for m, t in zip(self.measured, self.transfers, strict=True)
        ]
        return {
            "data": self.data,
            "class_names": list(self.class_names),
            "images": self.images,
            "of_images": self.of_images,
            "threads": self.threads,
            "chance": self.chance,
            "networks": rows,
            "skipped": [{"backbone": name, "reason": reason} for name, reason in self.skipped],
            "recommendation": asdict(self.recommendation),
            "transfer": asdict(self.transfer),
            "seconds": self.seconds,
        }


def budget(name: str) -> tuple[str, ...]:
    """The networks of a budget: "small", "medium" or "large".

    Raises: ConfigError for another name.
    """
    if name not in BUDGETS:
        raise unknown("budget", name, BUDGETS)
    return BUDGETS[name]


def compare(config: CompareConfig, dataset: LabelledImages, reporter: Reporter) -> Comparison:
    """Measure every network of ``config`` on the training and validation photos of a data set.

    A test split, the data's own or the one that ``tlkeras train`` with the same ``test_fraction`` keeps out, takes no
    part: a network that was chosen by test photos would be measured too kindly on them. A network that cannot be had is
    skipped, the others go on.

    Raises: WeightsError when none of the networks can be had; DataError, StorageError.
    """
    began = time.perf_counter()
    skipped: dict[str, str] = {}
    recipes: dict[str, TrainConfig] = {}
    for name in config.backbones:
        # Before anything is audited: what is missing is told at once.
        try:
            recipes[name] = config.recipe(name)
            backbones.resolve(backbones.get(recipes[name].backbone), recipes[name].weights, top=False)
        except (WeightsError, ConfigError) as error:
            skipped[name] = str(error)
            reporter.say(f"skipped {name}: {error}")
    _require_any(config, skipped)
    photos = audited(dataset, next(iter(recipes.values())), reporter).in_splits("train", "validation")
    available = len(photos)
    photos = photos.subset(stratified(photos.labels, config.images, seed=config.seed))
    if len(photos) < available:
        reporter.say(f"{len(photos):,} of {available:,} photos, classes keep their shares (--images {config.images})")
    measured = []
    for name, recipe in recipes.items():
        if name in skipped:
            continue
        reporter.say(name)
        made = _measured(name, recipe, photos, reporter)
        if isinstance(made, str):
            skipped[name] = made
            reporter.say(f"skipped {name}: {made}")
        else:
            measured.append(made)
    _require_any(config, skipped)
    chance = float(np.bincount(photos.labels).max() / len(photos))
    sides = [min(v.width, v.height) for v in photos.verdicts]
    return Comparison(
        data=dataset.name,
        class_names=dataset.class_names,
        images=len(photos),
        of_images=available,
        threads=usable_cpus(),
        chance=chance,
        measured=tuple(measured),
        transfers=tuple(transferability(m, float(np.median(sides)), seed=config.seed) for m in measured),
        skipped=tuple(skipped.items()),
        recommendation=recommend(measured, seed=config.seed),
        seconds=round(time.perf_counter() - began, 3),
    )


def _require_any(config: CompareConfig, skipped: dict[str, str]) -> None:
    if len(skipped) == len(config.backbones):
        raise WeightsError(
            "none of the networks can be had",
            received=f"first {next(iter(skipped.items()))[0]}: {next(iter(skipped.values()))}",
            next_step="'tlkeras backbones' shows whose weights are at hand; tlkeras_tiny always is.",
        )


def _measured(name: str, recipe: TrainConfig, photos: Photos, reporter: Reporter) -> Measured | str:
    """The figures of a network, or why there are none."""
    try:
        return measure(name, recipe, photos, reporter)
    except (WeightsError, ConfigError) as error:
        return str(error)
    except Exception as error:
        # TensorFlow's, by its name: it is imported only where Keras was asked.
        if type(error).__name__ not in ("MemoryError", "ResourceExhaustedError"):
            raise
        return f"out of memory at {recipe.side_px} px"
    finally:
        # Networks of a hundred megabytes would pile up.
        if (keras := sys.modules.get("keras")) is not None:
            keras.backend.clear_session()
        gc.collect()


def recommend(measured: Sequence[Measured], *, seed: int = 0) -> Recommendation:
    """Recommend one of the networks, which were measured on the same photos.

    Whose 95 % interval of the difference from the most accurate reaches 0 counts as equally accurate. Of those the
    quickest at batch 1 is taken.

    Raises: DataError without a network.
    """
    if not measured:
        raise DataError("a recommendation needs at least one measured network", received="none")
    best = max(measured, key=lambda m: (m.probe.accuracy, -m.ms[1]))
    as_good = [m for m in measured if paired_interval(best.probe.right, m.probe.right, seed=seed)[0] <= 0]
    taken = min(as_good, key=lambda m: (m.ms[1], m.parameters))
    interval = paired_interval(best.probe.right, taken.probe.right, seed=seed)
    difference = float(best.probe.right.mean() - taken.probe.right.mean())
    return Recommendation(
        name=taken.name,
        best=best.name,
        difference=difference,
        interval=interval,
        front=pareto(measured),
        sentence=_sentence(taken, best, difference, interval, len(measured)),
    )


def pareto(measured: Sequence[Measured]) -> tuple[str, ...]:
    """Names of the networks that no other beats in both time (batch 1) and accuracy, quickest first."""
    front: list[Measured] = []
    for m in sorted(measured, key=lambda m: (m.ms[1], -m.probe.accuracy)):
        if not front or m.probe.accuracy > front[-1].probe.accuracy:
            front.append(m)
    return tuple(m.name for m in front)


def _sentence(taken: Measured, best: Measured, difference: float, interval: tuple[float, float], networks: int) -> str:
    low, high = taken.probe.interval
    accuracy = f"{100 * taken.probe.accuracy:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f})"
    what = f"{accuracy}, {taken.ms[1]:.1f} ms an image"
    if networks == 1:
        return f"{taken.name} is the only network that was measured: {what}."
    if taken is best:
        return f"Take {taken.name}: {what}; no quicker network comes within the noise of its accuracy."
    slower = best.ms[1] / taken.ms[1]
    if difference == 0:
        return f"Take {taken.name}: {what}; as accurate as {best.name}, which takes {slower:.1f} times as long."
    return (
        f"Take {taken.name}: {what}; {best.name} gets {100 * difference:.1f} points more "
        f"(95 %: {100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}), which is within the noise of these photos, "
        f"and takes {slower:.1f} times as long."
    )
