"""Small networks for tests, with random weights that let something through."""

from typing import Any


def small_network(size_px: int = 32) -> Any:
    """A random MobileNet 0.25 whose features have a size of about one.

    Left as it is drawn, each of its layers shrinks the signal, and features of 1e-18 test nothing.
    """
    import keras

    from tlkeras import backbones

    keras.utils.set_random_seed(0)
    network = backbones.build("mobilenet_0.25", "none", size_px=size_px)
    for layer in backbones.application(network).layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(layer.moving_variance * 0.04)
    return network


def small_classifier(class_names: tuple[str, ...], *, size_px: int = 32, fit: str = "stretch", mirror: bool = False):
    """A random classifier on ``small_network`` whose probabilities differ from image to image."""
    import numpy as np

    from tlkeras import backbones
    from tlkeras.heads.config import HeadConfig
    from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network

    backbone = small_network(size_px)
    sha256 = backbones.weights_sha256(backbone)
    config = ClassifierConfig("mobilenet_0.25", size_px, fit, mirror, HeadConfig(), class_names, 1.3, sha256)
    network = build_network(config, backbone)
    for weight in network.get_layer("head").weights:
        weight.assign(np.random.default_rng(1).normal(0, 0.1, weight.shape))
    return TrainedClassifier(config, network)
