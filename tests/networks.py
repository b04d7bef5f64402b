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


def lively_network(name: str, size_px: int, pictures: Any) -> Any:
    """A random network of the backbone ``name`` in which every layer matters.

    ``pictures``: float32 ``[N, S, S, 3]`` in 0..255. Batch normalisation gets their statistics, and a shift that lets
    most of the signal pass the ReLU behind it: without, a random network of many layers is chaotic, and blows up a
    change in the last digit (Yang et al. 2019). Layers without normalisation let the signal keep its size (He et al.
    2015); ConvNeXt's branches, which start at a millionth, weigh as much as what they are added to.
    """
    import keras

    from tlkeras import backbones

    keras.utils.set_random_seed(0)
    network = backbones.build(name, "none", size_px=size_px)
    layers = backbones.application(network).layers
    normalisations = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(layer.gamma * 0 + 1.0)
        elif not normalisations and isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(layer.kernel * 2**0.5)
    for layer in normalisations:
        layer.momentum = 0.0
        layer.beta.assign(layer.beta + 1.0)
    if normalisations:
        network(pictures, training=True)
    return network


def classifier_of(
    backbone: Any, name: str, class_names: tuple[str, ...], pictures: Any, *, fit: str = "stretch", mirror: bool = False
) -> Any:
    """A classifier with a random linear head on ``backbone`` that tells ``pictures`` apart; see ``lively_network``."""
    import numpy as np

    from tlkeras.heads.config import HeadConfig
    from tlkeras.heads.linear import unit_rows
    from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network

    size_px = backbone.input_shape[1]
    config = ClassifierConfig(name, size_px, fit, mirror, HeadConfig(), class_names, 1.3, "")
    # The linear head sees features of unit length.
    features = unit_rows(backbone(np.asarray(pictures, np.float32), training=False).numpy())
    spread = features.std(axis=0).mean() * features.shape[1] ** 0.5
    kernel = np.random.default_rng(1).normal(0, 2, (features.shape[1], len(class_names))) / spread
    network = build_network(config, backbone)
    for weight in network.get_layer("head").weights:
        weight.assign(kernel if len(weight.shape) == 2 else -features.mean(axis=0) @ kernel)
    return TrainedClassifier.of_network(config, network)


def small_classifier(
    class_names: tuple[str, ...], *, size_px: int = 32, fit: str = "stretch", mirror: bool = False
) -> Any:
    """A random classifier on ``small_network`` whose answers differ from image to image."""
    import numpy as np

    pictures = np.random.default_rng(0).uniform(0, 255, (8, size_px, size_px, 3)).astype(np.float32)
    return classifier_of(small_network(size_px), "mobilenet_0.25", class_names, pictures, fit=fit, mirror=mirror)
