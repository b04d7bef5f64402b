"""What the demo page shows of one photo: classes, heat map, adversarial version. No web framework here."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.attacks.attacker import Attacker
from tlkeras.attacks.bounded import PGD
from tlkeras.attacks.plots import amplified
from tlkeras.errors import FormatError, ImageError, printable
from tlkeras.explain.heat_maps import Explainer, HeatMap, blended, laid_over
from tlkeras.images.arrays import png_bytes
from tlkeras.images.decode import decode, read_bytes
from tlkeras.json_csv import read_csv, read_json
from tlkeras.storage import write_bytes
from tlkeras.target import load_target

# Heat maps of phone photos are drawn on a copy of this size: colouring 12 megapixels takes seconds.
SHOWN_PX = 768
ATTACK_STEPS = 20
# A list may name files without end that are not there.
MOST_TRIED = 60


@dataclass(frozen=True)
class Answer:
    """What the classifier says of a photo.

    probabilities: by class name, calibrated, in the order of the classes. heat: uint8 ``[H, W, 3]``, the photo with
    its heat map for the most probable class, at most ``SHOWN_PX`` on its longer side. faithful: how the map does
    against random ones, in words.
    """

    probabilities: dict[str, float]
    label: str
    heat: np.ndarray
    faithful: str


@dataclass(frozen=True)
class Fooled:
    """A photo before and after an attack, at the network's size.

    before, change, after: uint8 ``[S, S, 3]``; ``change`` is amplified by ``factor`` around middle grey.
    before_probabilities, after_probabilities: by class name; the later of the saved PNG file, read back.
    summary: what came of it, one sentence.
    """

    before: np.ndarray
    change: np.ndarray
    after: np.ndarray
    factor: int
    before_probabilities: dict[str, float]
    after_probabilities: dict[str, float]
    success: bool
    summary: str


class Demonstrator:
    """A classifier with all that the page asks of it, compiled once.

    Raises: ClassifierError for a folder that holds no classifier.
    """

    def __init__(self, run: str | Path) -> None:
        self.target = load_target(run)
        self.explainer = Explainer(self.target)
        self.attacker = Attacker(self.target)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in their order, as a page may show them: names were chosen by whoever trained."""
        return tuple(printable(name) for name in self.target.class_names)

    def warm_up(self) -> None:
        """Build the graphs now, so that the first visitor does not wait for them."""
        side = self.target.size_px
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        self.explainer.explain(noise)
        self.attacker.attack([noise], PGD(steps=1))

    def answer(self, photo: str | Path) -> Answer:
        """Classes and heat map of an image file.

        Raises: ImageError when it cannot be decoded.
        """
        heat_map = self.explainer.explain(photo)
        heat = blended(_smaller(heat_map, self.target.size_px, self.target.fit))
        return Answer(self._named(heat_map.probabilities), printable(heat_map.label), heat, str(heat_map.faithfulness))

    def fool(self, photo: str | Path, to: str | int | None = None, epsilon_255: float = 4.0) -> Fooled:
        """The adversarial version of an image file, by projected gradient descent (Madry et al. 2018).

        ``to``: the class that it shall become, by name or number; any other when None.
        ``epsilon_255``: the most that any value of any pixel may change, of 255.

        Raises: ImageError when it cannot be decoded; ConfigError for an unknown class or an impossible budget.
        """
        result = self.attacker.attack([photo], PGD(epsilon_255=epsilon_255, steps=ATTACK_STEPS), to=to)
        before, after = result.original[0], result.adversarial[0]
        change, factor = amplified(before, after)
        rows = result.probabilities_before[0], result.probabilities_after[0]
        first, last = (f"{self.class_names[row.argmax()]} ({row.max():.1%})" for row in rows)
        size = f"no value changed by more than {result.linf_255[0]:.0f} of 255"
        if not result.attacked[0]:
            summary = f"Nothing to do: the network calls it {first} already."
        elif result.success[0]:
            summary = f"Fooled: {first} became {last}; {size}, {result.steps[0]} steps, scored after saving as PNG."
        else:
            summary = f"Not fooled: {first} stayed {last} with a budget of {epsilon_255:g} of 255. Try a larger one."
        was, became = map(self._named, rows)
        return Fooled(before, change, after, factor, was, became, success=bool(result.success[0]), summary=summary)

    def _named(self, row: np.ndarray) -> dict[str, float]:
        return {name: float(probability) for name, probability in zip(self.class_names, row, strict=True)}


def examples(run: str | Path, folder: Path, count: int = 6) -> list[str]:
    """Photos that the run was measured on, in turn from each class, written anew into ``folder``.

    Those are of its test split, or all where it has none; none where they cannot be read.
    A run may come from a stranger and its list name any file of this machine: what is shown is decoded as an image,
    made smaller, and written as PNG under a number, so that neither another file nor a name or a path gets out.
    """
    by_class: dict[str, list[str]] = {}
    try:
        rows = read_csv(Path(run) / "splits.csv")
    except (OSError, FormatError):
        return []
    tested = [row for row in rows if row.get("split") == "test"]
    for row in tested or rows:
        if row.get("path"):
            by_class.setdefault(row.get("label") or "", []).append(row["path"])
    longest = max((len(paths) for paths in by_class.values()), default=0)
    turns = (paths[turn] for turn in range(longest) for paths in by_class.values() if turn < len(paths))
    shown: list[str] = []
    for photo in itertools.islice(turns, MOST_TRIED):
        if len(shown) == count:
            break
        with contextlib.suppress(ImageError):
            pixels = decode(read_bytes(photo), at_least_px=SHOWN_PX).pixels
            target = folder / f"{len(shown) + 1}.png"
            write_bytes(target, png_bytes(_at_most(pixels, SHOWN_PX)))
            shown.append(str(target))
    return shown


def measured(run: str | Path) -> dict[str, Any]:
    """What ``metrics.json`` of a run says of its accuracy, or nothing where there is none that can be read."""
    schema = {"accuracy": float, "accuracy_interval": [float], "images": int}
    try:
        found = read_json(Path(run) / "metrics.json", schema)
    except (OSError, FormatError):
        return {}
    return found if len(found["accuracy_interval"]) == 2 else {}


def _smaller(heat_map: HeatMap, size_px: int, fit: str) -> HeatMap:
    photo = _at_most(heat_map.photo, SHOWN_PX)
    if photo is heat_map.photo:
        return heat_map
    heat = laid_over(heat_map.coarse, photo.shape[:2], size_px, fit)
    return dataclasses.replace(heat_map, photo=photo, heat=heat)


def _at_most(pixels: np.ndarray, side_px: int) -> np.ndarray:
    """uint8 ``[H, W, 3]``, made smaller where its longer side is longer than ``side_px``."""
    height, width = pixels.shape[:2]
    scale = side_px / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
