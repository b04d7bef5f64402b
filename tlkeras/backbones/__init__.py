"""Pretrained image networks: one table, their weights, and Keras models built from both."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tlkeras.backbones.table import BACKBONES, Backbone, WeightsFile, get, names
from tlkeras.backbones.weights import locate, resolve

if TYPE_CHECKING:
    from tlkeras.backbones.network import application as application
    from tlkeras.backbones.network import build as build
    from tlkeras.backbones.network import scale_pixels_class as scale_pixels_class
    from tlkeras.backbones.tensors import weights_sha256 as weights_sha256

__all__ = [
    "BACKBONES",
    "Backbone",
    "WeightsFile",
    "application",
    "build",
    "get",
    "locate",
    "names",
    "resolve",
    "scale_pixels_class",
    "weights_sha256",
]


def __getattr__(name: str) -> Any:
    """Import what builds networks when it is first used: it needs NumPy, the list of networks does not."""
    if name == "weights_sha256":
        return getattr(importlib.import_module("tlkeras.backbones.tensors"), name)
    if name in ("application", "build", "scale_pixels_class"):
        return getattr(importlib.import_module("tlkeras.backbones.network"), name)
    raise AttributeError(f"module 'tlkeras.backbones' has no attribute '{name}'")
