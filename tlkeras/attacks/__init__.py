"""How a network is fooled: adversarial images, and how robust it is against them and against common corruptions."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

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
