"""Pretrained image networks: one table, their weights, and Keras models built from both."""

from tlkeras.backbones.build import application, build, scale_pixels_class, weights_sha256
from tlkeras.backbones.table import BACKBONES, Backbone, WeightsFile, get, names
from tlkeras.backbones.weights import locate, resolve

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
