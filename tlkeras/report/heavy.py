"""What a full report shows and a training run does not have: it takes a network and a while to make.

Found results are kept (``tlkeras.report.insight``); only what is missing is made, into ``RUN/report-NUMBER``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.attacks.attacker import Attacker, make
from tlkeras.attacks.robustness import RobustnessConfig, robustness
from tlkeras.data.dataset import LabelledImages, printable
from tlkeras.errors import ImageError
from tlkeras.explain.heat_maps import Explainer, blended
from tlkeras.ideal.images import IdealConfig, ideal_images
from tlkeras.images.arrays import png_bytes
from tlkeras.progress import Reporter
from tlkeras.report.insight import ATTACK, HEAT, IDEAL, ROBUSTNESS, results
from tlkeras.report.pictures import MAX_CLASSES, MISTAKES, evenly
from tlkeras.run_facts import Prediction, RunFacts
from tlkeras.storage import new_folder, staged_folder, write_bytes, write_json
from tlkeras.target import Target, load_target

# Enough to show what there is to see; the commands themselves measure more.
_ATTACKED, _EPSILON_255 = 4, 4.0
_ROBUSTNESS = RobustnessConfig(methods=("pgd",), epsilons_255=(0.5, 1.0, 2.0, 4.0, 8.0), steps=10, images=40)


def make_missing(facts: RunFacts, reporter: Reporter) -> Path | None:
    """Make heat maps of mistakes, ideal images, an attack and a robustness curve, as far as the run has none.

    Returns the new folder, None when there was nothing to make. Raises: ClassifierError, StorageError.
    """
    wrong = _without_heat_map(facts)
    labels = _without_ideal(facts)
    right = [one for one in facts.predictions if one.right and Path(one.path).is_file()]
    there = [one for one in facts.predictions if Path(one.path).is_file()]
    attack = bool(right) and not results(facts.folder, ATTACK)
    sweep = bool(there) and not results(facts.folder, ROBUSTNESS)
    if not (wrong or labels or attack or sweep):
        return None
    target = load_target(str(facts.folder))
    folder = new_folder(None, facts.folder, "report")
    with staged_folder(folder) as staged:
        if wrong:
            _heat_maps(target, wrong, staged, reporter)
        if labels:
            _ideal(target, labels, staged, reporter)
        if attack:
            _attack(target, _spread(right), staged, reporter)
        if sweep:
            found = robustness(target, _labelled(facts, there), _ROBUSTNESS, reporter=reporter)
            write_json(staged / ROBUSTNESS, found.to_json())
    return folder


def _without_heat_map(facts: RunFacts) -> list[Prediction]:
    """The mistakes that the report shows and that have no heat map, as far as their photos are there."""
    wrong = sorted((one for one in facts.predictions if not one.right), key=lambda one: -one.probability)[:MISTAKES]
    have = {row["path"] for result in results(facts.folder, HEAT) for row in result.values["photos"]}
    return [one for one in wrong if printable(one.path) not in have and Path(one.path).is_file()]


def _without_ideal(facts: RunFacts) -> list[str]:
    have = {row["label"] for result in results(facts.folder, IDEAL) for row in result.values["images"]}
    return [name for name in facts.class_names[:MAX_CLASSES] if name not in have]


def _heat_maps(target: Target, mistakes: Sequence[Prediction], folder: Path, reporter: Reporter) -> None:
    """Where the network saw the class that it named."""
    explainer = Explainer(target, photos=len(mistakes))
    rows: list[dict[str, Any]] = []
    with reporter.step("explain") as progress:
        for number, one in enumerate(mistakes, 1):
            index = target.class_names.index(one.predicted)
            try:
                heat_map = explainer.explain(one.path, index, name=one.path)
            except ImageError as error:
                reporter.say(f"no heat map of {printable(one.path)}: {error}")
                continue
            name = f"heat-{number:02d}.png"
            write_bytes(folder / name, png_bytes(blended(_small(heat_map))))
            faithful = heat_map.faithfulness.to_json()
            rows.append({"path": printable(one.path), "label": one.predicted, "file": name, "faithfulness": faithful})
            progress(number, len(mistakes))
    write_json(
        folder / HEAT, {"network": target.name, "method": explainer.method, "layers": explainer.layers, "photos": rows}
    )


def _small(heat_map: Any, most_px: int = 480) -> Any:
    """Every nth pixel: a photo of 12 megapixels needs no heat map of that size here."""
    step = max(1, max(heat_map.photo.shape[:2]) // most_px)
    return replace(heat_map, photo=heat_map.photo[::step, ::step], heat=heat_map.heat[::step, ::step])


def _ideal(target: Target, labels: Sequence[str], folder: Path, reporter: Reporter) -> None:
    made = ideal_images(target, labels, IdealConfig(frames=2), reporter=reporter)
    described = made.to_json()
    for number, (row, image) in enumerate(zip(described["images"], made.images, strict=True), 1):
        row["file"] = f"ideal-{number:03d}.png"
        write_bytes(folder / row["file"], png_bytes(image))
    write_json(folder / IDEAL, described)


def _spread(right: Sequence[Prediction]) -> list[Prediction]:
    """Some photos of different classes; of each class the one that the network is surest of."""
    surest: dict[str, Prediction] = {}
    for one in sorted(right, key=lambda one: -one.probability):
        surest.setdefault(one.label, one)
    return evenly(list(surest.values()), _ATTACKED)


def _attack(target: Target, photos: Sequence[Prediction], folder: Path, reporter: Reporter) -> None:
    paths, labels = [one.path for one in photos], [one.label for one in photos]
    with reporter.step("attack") as progress:
        attack = make("pgd", epsilon_255=_EPSILON_255)
        result = Attacker(target).attack(paths, attack, labels=labels, progress=progress)
    described = result.to_json()
    pictures = zip(described["results"], result.original, result.adversarial, strict=True)
    for number, (row, before, after) in enumerate(pictures, 1):
        row["path"] = printable(row["path"])
        row["original"], row["file"] = f"original-{number}.png", f"adversarial-{number}.png"
        write_bytes(folder / row["original"], png_bytes(before))
        write_bytes(folder / row["file"], png_bytes(after))
    write_json(folder / ATTACK, described)


def _labelled(facts: RunFacts, photos: Sequence[Prediction]) -> LabelledImages:
    index = {name: number for number, name in enumerate(facts.class_names)}
    return LabelledImages(
        name=facts.data_name or "photos",
        source=str(facts.folder),
        class_names=facts.class_names,
        paths=tuple(one.path for one in photos),
        labels=np.array([index[one.label] for one in photos], np.int32),
        splits=np.full(len(photos), "test"),
    )
