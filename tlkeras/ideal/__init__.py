"""Ideal images: what a network sees most clearly as a class. Here is how they are asked for, in plain values."""

from __future__ import annotations

from dataclasses import dataclass

from tlkeras.errors import ConfigError
from tlkeras.options import option

MAX_STEPS = 100_000


@dataclass(frozen=True)
class IdealConfig:
    """How ideal images are made; None means what the preset of the network's family says.

    mode: "fourier", or "pixels", the plain loop. steps: gradient steps. tv: weight of the total variation that
    is subtracted; 0 shows the noise. count: images of each class. batch_size: how many climb together.
    frames: how many moments of the way are kept.

    Raises: ConfigError for a value that an option cannot have.
    """

    mode: str = option("fourier", "fourier, or pixels (the plain loop).")
    steps: int | None = option(None, "Gradient steps; default by mode and network.")
    tv: float | None = option(None, "Weight of the total variation; 0 shows the noise; default by mode.")
    count: int = 1
    seed: int = option(0, "Same seed, same images.")
    batch_size: int = 8
    frames: int = 24

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, MAX_STEPS),
            ("count", 1, 1000),
            ("batch_size", 1, 256),
            ("frames", 2, 1000),
            ("seed", 0, 2**31 - 1_000_000),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} must lie in {low}..{high}", received=value)
        if self.tv is not None and not 0 <= self.tv < float("inf"):
            raise ConfigError("tv, the weight of the total variation, must be 0 or more", received=self.tv)
