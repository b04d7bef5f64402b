"""What an attack did, measured on what a PNG file holds: written, read back, scored again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.data.dataset import plural
from tlkeras.heads.logits import ranked


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

    def images_to_json(self) -> list[dict[str, Any]]:
        """Plain values for each image; the lists of classes hold the three most probable."""
        rows = []
        for i in range(len(self)):
            before, after = (self._ranked(p[i]) for p in (self.probabilities_before, self.probabilities_after))
            target = None if self.targets is None else int(self.targets[i])
            aim = {} if target is None else {"target": self.class_names[target],
                   "target_probability_before": _share(self.probabilities_before[i, target]),
                   "target_probability_after": _share(self.probabilities_after[i, target])}  # fmt: skip
            rows.append(
                {
                    "path": self.paths[i],
                    "label": self.class_names[self.labels[i]],
                    **aim,
                    "attacked": bool(self.attacked[i]),
                    "success": bool(self.success[i]),
                    "success_before_rounding": bool(self.raw_success[i]),
                    "before": before,
                    "after": after,
                    "linf_255": float(self.linf_255[i]),
                    "l2_255": round(float(self.l2_255[i]), 3),
                    "l0_pixels": int(self.l0_pixels[i]),
                    "steps": int(self.steps[i]),
                }
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Plain values: the attack, the rate of success, and every image."""
        return {
            "network": self.network,
            "attack": self.attack,
            "images": len(self),
            "attacked": int(self.attacked.sum()),
            "success": int(self.success.sum()),
            "success_rate": self.success_rate,
            "seconds": round(self.seconds, 3),
            "results": self.images_to_json(),
        }

    def __repr__(self) -> str:
        """The attack and what came of it, on one line."""
        parameters = ", ".join(f"{name}={value!r}" for name, value in self.attack.items() if name != "method")
        done = f"{int(self.success.sum())} of {plural(int(self.attacked.sum()), 'image')} fooled"
        return f"AttackResult({self.network}, {self.attack['method']}({parameters}): {done})"

    def _ranked(self, row: np.ndarray) -> list[dict[str, Any]]:
        return [{"label": self.class_names[k], "probability": _share(row[k])} for k in ranked(row, 3)]


def _share(value: float) -> float:
    return round(float(value), 6)
