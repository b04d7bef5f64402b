"""What a network sees as a class, and how it is fooled: ideal images and adversarial images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlkeras.adversarial.apgd import APGD as APGD
    from tlkeras.adversarial.apgd import APGDDLR as APGDDLR
    from tlkeras.adversarial.attacks import Attacker as Attacker
    from tlkeras.adversarial.attacks import attack as attack
    from tlkeras.adversarial.attacks import smallest_epsilon as smallest_epsilon
    from tlkeras.adversarial.gradient_attacks import FGSM as FGSM
    from tlkeras.adversarial.gradient_attacks import PGD as PGD
    from tlkeras.adversarial.gradient_attacks import MomentumPGD as MomentumPGD
    from tlkeras.adversarial.minimal import CarliniWagner as CarliniWagner
    from tlkeras.adversarial.minimal import DeepFool as DeepFool
    from tlkeras.adversarial.result import AttackResult as AttackResult
    from tlkeras.adversarial.robustness import RobustnessConfig as RobustnessConfig
    from tlkeras.adversarial.square import Square as Square
    from tlkeras.adversarial.target import Target as Target
    from tlkeras.adversarial.target import load_target as load_target
    from tlkeras.adversarial.transfer import transfer_matrix as transfer_matrix

_HOMES = {
    "APGD": "apgd",
    "APGDDLR": "apgd",
    "FGSM": "gradient_attacks",
    "PGD": "gradient_attacks",
    "AttackResult": "result",
    "Attacker": "attacks",
    "CarliniWagner": "minimal",
    "DeepFool": "minimal",
    "MomentumPGD": "gradient_attacks",
    "RobustnessConfig": "robustness",
    "Square": "square",
    "Target": "target",
    "attack": "attacks",
    "load_target": "target",
    "smallest_epsilon": "attacks",
    "transfer_matrix": "transfer",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: they need TensorFlow, which takes seconds."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
