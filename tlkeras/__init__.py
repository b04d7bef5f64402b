"""tlkeras: a folder of photos becomes an image classifier, by transfer learning with Keras on TensorFlow."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlkeras.classifier import ImageClassifier as ImageClassifier
    from tlkeras.data.audit import audit as audit
    from tlkeras.data.open import open_dataset as open_dataset
    from tlkeras.errors import TlkerasError as TlkerasError
    from tlkeras.explain.feature_maps import feature_maps as feature_maps
    from tlkeras.explain.heat_maps import heat_maps as heat_maps
    from tlkeras.ideal import IdealConfig as IdealConfig
    from tlkeras.ideal.images import ideal_images as ideal_images
    from tlkeras.target import load_target as load_target
    from tlkeras.trained import TrainedClassifier as TrainedClassifier

__version__ = "0.1.0"

# Keras 3 reads this when it is first imported; another backend could not run what we build.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

_HOMES = {
    "IdealConfig": "tlkeras.ideal",
    "ImageClassifier": "tlkeras.classifier",
    "TrainedClassifier": "tlkeras.trained",
    "TlkerasError": "tlkeras.errors",
    "audit": "tlkeras.data.audit",
    "feature_maps": "tlkeras.explain.feature_maps",
    "heat_maps": "tlkeras.explain.heat_maps",
    "ideal_images": "tlkeras.ideal.images",
    "load_target": "tlkeras.target",
    "open_dataset": "tlkeras.data.open",
}
__all__ = [
    "IdealConfig",
    "ImageClassifier",
    "TlkerasError",
    "TrainedClassifier",
    "audit",
    "feature_maps",
    "heat_maps",
    "ideal_images",
    "load_target",
    "open_dataset",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: TensorFlow takes seconds, ``import tlkeras`` must not."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tlkeras' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
