"""Does what fools one network fool the others too? A matrix of networks that attack and networks that judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.attacks.attacker import Attacker, AttackResult
from tlkeras.attacks.base import Attack
from tlkeras.errors import ConfigError
from tlkeras.images.arrays import png_bytes
from tlkeras.target import Target


@dataclass(frozen=True)
class Transfer:
    """What one network says of the images that were made against another.

    network: its name. right_before: bool ``[N]``, whether it gave the label to the original.
    fooled: bool ``[N]``, whether it was right before and no longer gives the label. reached: bool ``[N]``, whether
    it now says the target class; None for an untargeted attack.
    probabilities_before, probabilities_after: float32 ``[N, K]``.
    """

    network: str
    right_before: np.ndarray
    fooled: np.ndarray
    reached: np.ndarray | None
    probabilities_before: np.ndarray
    probabilities_after: np.ndarray


@dataclass(frozen=True)
class TransferMatrix:
    """Rows are networks that were attacked, columns are networks that judge; both in the order of ``networks``.

    counted: int ``[R, C]``, images that the row's network was attacked on and that the column's network had right.
    fooled: of those, how many it no longer has right. reached: how many it takes for the target class, or None.
    results: the attack on each network; transfers: R lists of C.
    """

    networks: tuple[str, ...]
    counted: np.ndarray
    fooled: np.ndarray
    reached: np.ndarray | None
    results: tuple[AttackResult, ...]
    transfers: tuple[tuple[Transfer, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the images."""
        reached = None if self.reached is None else self.reached.tolist()
        counts = {"images": self.counted.tolist(), "fooled": self.fooled.tolist(), "reached_target": reached}
        return {"networks": list(self.networks), "rows": "attacked", "columns": "judging", **counts}


def transfer(result: AttackResult, target: Target) -> Transfer:
    """What another network says of the saved images, each made square in its own way.

    Raises: ConfigError when it has other classes.
    """
    if target.class_names != result.class_names:
        raise ConfigError(
            "networks that judge each other's images have the same classes",
            received=f"{target.name} with {len(target.class_names)} other ones",
            next_step=f"Choose networks with the {len(result.class_names)} classes of {result.network}.",
        )
    before, after = (
        target.probabilities(np.stack([target.load(png_bytes(one)) for one in images]))
        for images in (result.original, result.adversarial)
    )
    right = before.argmax(axis=1) == result.labels
    best = after.argmax(axis=1)
    reached = None if result.targets is None else best == result.targets
    return Transfer(target.name, right, right & (best != result.labels), reached, before, after)


def transfer_matrix(
    attackers: Sequence[Attacker],
    images: Sequence[Any],
    method: str | Attack = "pgd",
    *,
    to: Any = None,
    labels: Any = None,
) -> TransferMatrix:
    """Attack every network on the same images, and have every network judge what came of it.

    Arguments as those of ``Attacker.attack``. On the diagonal stands the attack's own success.
    """
    results = [attacker.attack(images, method, to=to, labels=labels) for attacker in attackers]
    transfers = [[transfer(result, attacker.target) for attacker in attackers] for result in results]

    def counts(row: int, what: str) -> list[int]:
        attacked = results[row].attacked
        return [int((getattr(v, what) & attacked & v.right_before).sum()) for v in transfers[row]]

    rows = range(len(results))
    targeted = results[0].targets is not None
    return TransferMatrix(
        networks=tuple(attacker.target.name for attacker in attackers),
        counted=np.array([counts(row, "right_before") for row in rows]),
        fooled=np.array([counts(row, "fooled") for row in rows]),
        reached=np.array([counts(row, "reached") for row in rows]) if targeted else None,
        results=tuple(results),
        transfers=tuple(tuple(row) for row in transfers),
    )
