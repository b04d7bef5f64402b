"""Attacking a network: photos in, adversarial images out, measured after they were saved.

>>> result = Attacker("mobilenet_v2").attack(["dog.jpg"], PGD(epsilon_255=4), to="Siamese cat")    # doctest: +SKIP
>>> result.success, result.linf_255, result.adversarial                                            # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.attacks import bounded, minimal, norms
from tlkeras.attacks.base import BATCH_SIZE, METHODS, Attack, Found, Progress
from tlkeras.attacks.model import FullSize, Goal, attack_model
from tlkeras.data.dataset import plural
from tlkeras.errors import ConfigError, DataError, unknown
from tlkeras.heads.logits import ranked, softmax
from tlkeras.images.arrays import as_pixels, through_png
from tlkeras.images.decode import decode, read_bytes
from tlkeras.target import Target, load_target

# Importing them is what makes their attacks known.
__all__ = ["METHODS", "AttackResult", "Attacker", "bounded", "make", "minimal", "smallest_epsilon"]


@dataclass(frozen=True)
class AttackResult:
    """An attack on N images of one size.

    network: the attacked network's name. attack: the method and all its parameters, plain values.
    class_names: K names. paths: N names of the images, as far as they have one.
    original, adversarial: uint8 ``[N, H, W, 3]``, what the PNG files hold before and after.
    labels: int32 ``[N]``, the true classes, or what the network said where none was given.
    targets: int32 ``[N]``, or None for an untargeted attack.
    attacked: bool ``[N]``: right to begin with and not yet what is wanted; only these count.
    raw_success: bool ``[N]``, before rounding to 8 bits. success: bool ``[N]``, after PNG and back.
    probabilities_before, probabilities_after: float32 ``[N, K]`` of the PNG files' pixels.
    linf_255, l2_255: norms of the change in pixel units; l0_pixels: pixels changed; all ``[N]``.
    steps: int ``[N]``, steps made until the image was settled.
    seconds: of the whole attack, compilation included.
    """

    network: str
    attack: dict[str, Any]
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    original: np.ndarray
    adversarial: np.ndarray
    labels: np.ndarray
    targets: np.ndarray | None
    attacked: np.ndarray
    raw_success: np.ndarray
    success: np.ndarray
    probabilities_before: np.ndarray
    probabilities_after: np.ndarray
    linf_255: np.ndarray
    l2_255: np.ndarray
    l0_pixels: np.ndarray
    steps: np.ndarray
    seconds: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def success_rate(self) -> float | None:
        """Share of the attacked images that were fooled after PNG and back; None when none could be attacked."""
        count = int(self.attacked.sum())
        return int(self.success.sum()) / count if count else None

    def to_json(self) -> dict[str, Any]:
        """Plain values: the attack, the rate of success, and every image with its three most probable classes."""
        return {
            "network": self.network,
            "attack": self.attack,
            "images": len(self),
            "attacked": int(self.attacked.sum()),
            "success": int(self.success.sum()),
            "success_rate": self.success_rate,
            "seconds": round(self.seconds, 3),
            "results": [self._image(index) for index in range(len(self))],
        }

    def __repr__(self) -> str:
        """The attack and what came of it, on one line."""
        parameters = ", ".join(f"{name}={value!r}" for name, value in self.attack.items() if name != "method")
        done = f"{int(self.success.sum())} of {plural(int(self.attacked.sum()), 'image')} fooled"
        return f"AttackResult({self.network}, {self.attack['method']}({parameters}): {done})"

    def _image(self, i: int) -> dict[str, Any]:
        before, after = self.probabilities_before[i], self.probabilities_after[i]
        target = None if self.targets is None else int(self.targets[i])
        aim = {} if target is None else {"target": self.class_names[target],
               "target_probability_before": _share(before[target]),
               "target_probability_after": _share(after[target])}  # fmt: skip
        return {
            "path": self.paths[i],
            "label": self.class_names[self.labels[i]],
            **aim,
            "attacked": bool(self.attacked[i]),
            "success": bool(self.success[i]),
            "success_before_rounding": bool(self.raw_success[i]),
            "before": self._ranked(before),
            "after": self._ranked(after),
            "linf_255": float(self.linf_255[i]),
            "l2_255": round(float(self.l2_255[i]), 3),
            "l0_pixels": int(self.l0_pixels[i]),
            "steps": int(self.steps[i]),
        }

    def _ranked(self, row: np.ndarray) -> list[dict[str, Any]]:
        return [{"label": self.class_names[k], "probability": _share(row[k])} for k in ranked(row, 3)]


def make(method: str, **options: Any) -> Attack:
    """The attack of that name with its parameters; options that are None keep their default.

    Raises: ConfigError for an unknown method, an option that the method has not, or an impossible value.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    kind = METHODS[method]
    given = {name: value for name, value in options.items() if value is not None}
    known = [field.name for field in dataclasses.fields(kind)]
    for name in given:
        if name not in known:
            raise unknown(f"option of {method}", name, known)
    return kind(**given)


class Attacker:
    """A network that is ready to be attacked: compiled once, whatever is tried on it.

    network: a backbone with its ImageNet top, a run directory, or an open ``Target``. full_size: attack photos at
    their own size, the resize being part of what is differentiated; otherwise at the network's size.

    Raises: what ``load_target`` raises.
    """

    def __init__(self, network: str | Path | Target, *, full_size: bool = False) -> None:
        self.target = load_target(network)
        self.full_size = full_size
        self.model = attack_model(self.target, full_size=full_size)

    def load(self, images: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Images as they are attacked: uint8 ``[N, H, W, 3]``, at full size all of one size.

        ``images``: paths, bytes of files, Pillow images, or arrays ``[H, W, 3]`` in 0..255.

        Raises: ImageError for one that cannot be decoded; ConfigError for an array that is no image; DataError for
        photos of several sizes.
        """
        if not self.full_size:
            return np.stack([np.rint(self.target.load(image)).astype(np.uint8) for image in images])
        photos = [_photo(image) for image in images]
        sizes = sorted({photo.shape[:2] for photo in photos})
        if len(sizes) > 1:
            words = " and ".join(f"{width} × {height}" for height, width in sizes[:3])
            raise DataError("photos attacked at full size together have one size", received=words)
        return np.stack(photos)

    def attack(
        self,
        images: Sequence[Any] | np.ndarray,
        method: str | Attack = "pgd",
        *,
        to: str | int | Sequence[str | int] | np.ndarray | None = None,
        labels: Sequence[str | int] | np.ndarray | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> AttackResult:
        """Attack images and measure what came of it.

        ``images``: see ``load``. ``method``: a name of ``METHODS``, or an attack with its parameters. ``to``: the
        class that they shall become, one for all or one for each; any other class when None. ``labels``: their
        true classes; by default what the network says of them, so that none counts as wrong to begin with.

        Raises: ConfigError, DataError, ImageError.
        """
        started = time.perf_counter()
        method = make(method) if isinstance(method, str) else method
        if not len(images):
            raise DataError("an attack needs at least one image", received="none")
        paths = tuple(os.fspath(image) if isinstance(image, str | os.PathLike) else "" for image in images)
        originals = self.load(images)
        before = self.scores_saved(originals)
        goal = self._goal(before, to, labels)
        method.check(before.shape[1], goal.targeted)
        attacked = goal.worth_attacking(before)
        rows = np.flatnonzero(attacked)
        size = batch_size or (max(1, BATCH_SIZE // 8) if self.full_size else BATCH_SIZE)
        found = _spread(
            method.run(self.model, originals[rows], goal.of(rows), batch_size=size, progress=progress), rows, originals
        )
        if self.full_size:
            # A random start changes what the crop leaves out as well, to no purpose.
            seen = FullSize(self.target).seen(*originals.shape[1:3])
            found = dataclasses.replace(found, adversarial=np.where(seen, found.adversarial, originals))
        after = self.scores_saved(found.adversarial)
        temperature = self.target.temperature
        return AttackResult(
            network=self.target.name,
            attack=method.to_json(),
            class_names=self.target.class_names,
            paths=paths,
            original=originals,
            adversarial=found.adversarial,
            labels=goal.labels,
            targets=goal.targets,
            attacked=attacked,
            raw_success=found.raw_success,
            success=attacked & goal.reached(after),
            probabilities_before=softmax(before, temperature),
            probabilities_after=softmax(after, temperature),
            steps=found.steps,
            seconds=time.perf_counter() - started,
            **norms.distances(found.adversarial, originals),
        )

    def scores_saved(self, pixels: np.ndarray) -> np.ndarray:
        """Logits float32 ``[N, K]`` of uint8 ``[N, H, W, 3]`` after they were written as PNG and read back."""
        answers = np.empty((len(pixels), len(self.target.class_names)), np.float32)
        size = 1 if self.full_size else BATCH_SIZE
        for start in range(0, len(pixels), size):
            read = through_png(pixels[start : start + size])
            answers[start : start + size] = self.model.logits(read.astype(np.float32)).numpy()
        return answers

    def _goal(self, before: np.ndarray, to: Any, labels: Any) -> Goal:
        classes = before.argmax(axis=1) if labels is None else self._indices(labels, len(before), "labels")
        targets = None if to is None else self._indices(to, len(before), "target classes")
        goal = Goal(classes, targets)
        goal.check(before.shape[1])
        return goal

    def _indices(self, named: Any, count: int, noun: str) -> np.ndarray:
        if isinstance(named, str | int | np.integer):
            named = [named] * count
        if len(named) != count:
            raise DataError(f"{count} images need as many {noun}", received=len(named))
        return np.array([self.target.class_index(one if isinstance(one, str) else int(one)) for one in named], np.int32)


def smallest_epsilon(
    attacker: Attacker,
    image: Any,
    method: str | Attack = "pgd",
    *,
    up_to_255: float | None = None,
    to: str | int | None = None,
    labels: Sequence[str | int] | None = None,
) -> AttackResult:
    """The attack on one image with the smallest epsilon that works, found by bisection.

    ``up_to_255``: the largest that is tried, by default ``LARGE_EPSILON_255`` of the method's norm; the method's own
    epsilon has no say. L∞ budgets are whole numbers, because 8 bits hold no others; L2 budgets are found to 2 %. The
    result's ``attack["epsilon_255"]`` tells it; where even the largest does not work, that is the result. The smallest
    epsilon of this attack is an upper bound of what is possible.

    Raises: ConfigError for an attack without a budget.
    """
    method = make(method) if isinstance(method, str) else method
    if method.minimal:
        raise ConfigError(f"{method.name} looks for the smallest change by itself", next_step="Leave out smallest.")

    def at(epsilon_255: float) -> AttackResult:
        return attacker.attack([image], dataclasses.replace(method, epsilon_255=epsilon_255), to=to, labels=labels)

    high = norms.LARGE_EPSILON_255[method.norm] if up_to_255 is None else up_to_255
    # Below 1 there is no whole number: nothing smaller than what was allowed can be tried.
    whole = method.norm == "linf" and high >= 1
    high = float(np.floor(high)) if whole else high
    best = at(high)
    low = 0.0
    while best.success.all() and high - low > (1 if whole else 0.02 * high):
        middle = float((low + high) // 2) if whole else (low + high) / 2
        result = at(middle)
        low, high, best = (low, middle, result) if result.success.all() else (middle, high, best)
    return best


def _photo(image: Any) -> np.ndarray:
    if isinstance(image, str | Path):
        image = read_bytes(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode(bytes(image)).pixels
    return np.rint(as_pixels(image)).astype(np.uint8)


def _spread(found: Found, rows: np.ndarray, originals: np.ndarray) -> Found:
    """What was found for some of the images, among all: the others stay as they were."""
    count = len(originals)
    adversarial = originals.copy()
    adversarial[rows] = found.adversarial
    whole = [np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, np.int64)]
    for out, part in zip(whole, (found.raw_success, found.success, found.steps), strict=True):
        out[rows] = part
    return Found(adversarial, *whole)


def _share(value: float) -> float:
    return round(float(value), 6)
