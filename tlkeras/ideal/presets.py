"""Settings under which ideal images come out well without tuning, by mode and family of the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from tlkeras.backbones import BACKBONES
from tlkeras.errors import unknown
from tlkeras.ideal.ascent import ADAM, GRADIENT, Ascent
from tlkeras.ideal.objectives import (
    ClassLogit,
    ClassLogProbability,
    Objective,
    TotalVariation,
    normalisations,
    strange_statistics,
)
from tlkeras.ideal.parameterisation import Fourier, Parameterisation, Pixels, Transforms
from tlkeras.target import Target

PIXELS = "pixels"
FOURIER = "fourier"
MODES = (FOURIER, PIXELS)


@dataclass(frozen=True)
class Preset:
    """All settings of a run.

    certainty: weight of the logarithm of the class's probability, beside the logit: the logit alone lets a similar
    class grow with it. tv: weight of the total variation that is subtracted. statistics: weight of the distance from
    photos' statistics inside the network; without effect in a network that has no batch normalisation.
    statistics_one_of: of so many successive normalisations one is looked at, that with the smallest output. All of
    them cost as much as half the pass through the network; the narrow ones are at every depth and cost next to nothing.
    """

    mode: str
    held: Parameterisation
    transforms: Transforms
    ascent: Ascent
    tv: float
    certainty: float = 0.0
    statistics: float = 0.0
    statistics_one_of: int = 3

    def with_variation(self, objective: Objective) -> Objective:
        """The objective minus the weighted total variation."""
        return objective - self.tv * TotalVariation() if self.tv else objective

    def class_objective(self, target: Target, seen_in: Any | None = None) -> Objective:
        """The logit of each image's class, and what this preset weighs beside it, without the total variation.

        ``seen_in``: the network that will be looked at, if it is a folded copy of the target's.
        """
        objective: Objective = ClassLogit()
        if self.certainty:
            objective += self.certainty * ClassLogProbability()
        if self.statistics:
            strange = strange_statistics(target.network, seen_in=seen_in, one_of=self.statistics_one_of)
            if strange:
                objective -= self.statistics * strange
        return objective

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


_FOURIER = Preset(
    mode=FOURIER,
    held=Fourier(),
    # A window costs less time than the whole, and with smaller zooms what is found is larger and more like the thing.
    transforms=Transforms(jitter=0.1, turn_degrees=12.0, scale=(0.7, 1.2), window=0.857),
    ascent=Ascent(ADAM, rate=0.12, steps=256),
    tv=20.0,
    certainty=1.0,
    statistics=60.0,
)
# Families without batch normalisation, such as VGG and ConvNeXt, remember nothing of photos: a smoother spectrum and
# more total variation take the place of it. Chosen on MobileNetV2 with its statistics left out.
_FOURIER_ALONE = replace(_FOURIER, held=Fourier(decay=1.3), tv=80.0, statistics=0.0)
# EfficientNet-Lite is sure of a class at once, from grain that says nothing to another network: small steps under a
# little noise make it find large things. Chosen on it by what MobileNetV2 sees in the images.
_FOURIER_LITE = replace(
    _FOURIER,
    transforms=replace(_FOURIER.transforms, noise_255=8.0),
    ascent=replace(_FOURIER.ascent, rate=0.03),
    tv=40.0,
)
_OF_FAMILY = {"EfficientNetLite": _FOURIER_LITE}
_PIXELS = Preset(
    mode=PIXELS,
    held=Pixels(),
    transforms=Transforms(),
    ascent=Ascent(GRADIENT, rate=10.0, steps=160),
    tv=1000.0,
)


def preset(target: Target, mode: str, *, steps: int | None = None, tv: float | None = None) -> Preset:
    """The preset of a mode for a network of its family, with what the user wants otherwise.

    Raises: ConfigError for an unknown mode.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    chosen = _PIXELS
    if mode == FOURIER:
        chosen = _FOURIER if normalisations(target.network) else _FOURIER_ALONE
        if target.backbone in BACKBONES:
            chosen = _OF_FAMILY.get(BACKBONES[target.backbone].family, chosen)
    if steps is not None:
        chosen = replace(chosen, ascent=replace(chosen.ascent, steps=steps))
    return chosen if tv is None else replace(chosen, tv=tv)
