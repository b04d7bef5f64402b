"""How a network is fooled: adversarial images, and how robust it is against them and against common corruptions."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from tlkeras.errors import ConfigError, unknown
from tlkeras.options import option

# Where public names live. Attacks are found by their class's name: a new one is known here without a word.
_MODULES = ("attacker", "bounded", "minimal", "robustness", "transfer")


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: they need TensorFlow, which takes seconds."""
    is_module = name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}")
    for module in () if is_module else _MODULES:
        home = importlib.import_module(f"{__name__}.{module}")
        if getattr(getattr(home, name, None), "__module__", "") == home.__name__:
            return getattr(home, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


@dataclass(frozen=True)
class RobustnessConfig:
    """What to measure.

    methods: names of attacks; corruptions: names; either may be empty, not both. epsilons_255: the budgets, pixel
    units. What is None is usual for the norm: its methods, all corruptions, its budgets. steps: of each attack, its own
    default when None. images: how many of the data set, drawn with seed.

    Raises: ConfigError for an unknown name or an impossible value.
    """

    methods: tuple[str, ...] | None = option(
        None, "Attacks with commas between, or none; default the usual ones ('tlkeras attack --list')."
    )
    corruptions: tuple[str, ...] | None = option(
        None, "blur,noise,jpeg,brightness,contrast,rotation, or none; default all."
    )
    epsilons_255: tuple[float, ...] | None = option(
        None, "Budgets in pixel units with commas between; default 0.5,1,2,4,8,16.", flag="--epsilons"
    )
    norm: str = option("linf", "linf or l2.")
    steps: int | None = option(None, "Of each attack; default its own.")
    images: int = option(100, "How many images, drawn with the seed.")
    seed: int = option(0, "Same seed, same figures.")

    def __post_init__(self) -> None:
        from tlkeras.attacks.corruptions import CORRUPTIONS
        from tlkeras.attacks.norms import NORMS

        if self.corruptions is None:
            object.__setattr__(self, "corruptions", tuple(CORRUPTIONS))
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        if not self.attacks and not self.corruptions:
            raise ConfigError("nothing is left to measure", next_step="Name an attack or a corruption.")
        for name in self.corruptions or ():
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
        from tlkeras.attacks.attacker import METHODS

        usual = (name for name, kind in METHODS.items() if self.norm in kind.usual_in)
        return tuple(dict.fromkeys(usual if self.methods is None else self.methods))

    @property
    def budgets_255(self) -> tuple[float, ...]:
        """The budgets, defaults resolved, ascending."""
        from tlkeras.attacks.norms import LARGE_EPSILON_255

        # Each twice the one before.
        usual = (round(LARGE_EPSILON_255[self.norm] / 2**halvings, 1) for halvings in range(6))
        return tuple(sorted(set(usual if self.epsilons_255 is None else self.epsilons_255)))

    def attack(self, name: str, epsilon_255: float) -> Any:
        """One of the attacks with one of the budgets."""
        from tlkeras.attacks.attacker import METHODS, make

        minimal = name in METHODS and METHODS[name].minimal
        steps = None if name == "fgsm" else self.steps
        return make(name, norm=self.norm, epsilon_255=None if minimal else epsilon_255, steps=steps, seed=self.seed)
