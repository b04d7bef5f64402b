"""The contract that every backbone of the table keeps."""

import dataclasses
import importlib
import sys

import keras
import numpy as np
import pytest

from tlkeras.backbones import BACKBONES, WeightsFile, application, build, get, names
from tlkeras.backbones.network import constructor_of
from tlkeras.backbones.table import BUILT_IN
from tlkeras.heads.config import HeadConfig
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network

# One or two of every family; the others differ from these in depth and width only, and take minutes.
QUICK = {
    *("vgg16", "resnet50", "resnet50_v2", "densenet121", "inception_v3", "inception_resnet_v2", "xception"),
    *("mobilenet", "mobilenet_0.25", "mobilenet_v2", "mobilenet_v2_1.40", "mobilenet_v3_small"),
    *("mobilenet_v3_large_minimalistic", "nasnet_mobile", "efficientnet_b0", "efficientnet_v2_b0"),
    *("efficientnet_lite0", "efficientnet_lite2", "convnext_tiny", "tlkeras_tiny"),
}
assert {BACKBONES[name].family for name in QUICK} == {backbone.family for backbone in BACKBONES.values()}


def quick_or_slow(chosen, all_names):
    return [pytest.param(n, marks=() if n in chosen else pytest.mark.slow) for n in all_names]


@pytest.fixture(autouse=True)
def free_memory():
    yield
    keras.backend.clear_session()


def pixels(size_px, count=2):
    return np.random.default_rng(0).uniform(0, 255, (count, size_px, size_px, 3)).astype("float32")


def own_module(backbone):
    """The module that this constructor, and in keras.applications its preprocess_input, belong to."""
    return sys.modules[constructor_of(backbone).__module__]


@pytest.mark.parametrize("name", quick_or_slow(QUICK, names()))
def test_contract(name, tmp_path, monkeypatch):
    backbone = get(name)
    keras.utils.set_random_seed(3)
    model = build(name, "none", size_px=backbone.min_size_px)
    assert model.output_shape == (None, backbone.feature_size)
    assert model.count_params() == backbone.parameters

    batch = pixels(backbone.min_size_px)
    theirs = getattr(own_module(backbone), "preprocess_input", np.asarray)  # ours scale inside
    expected = theirs(batch.copy())
    scaled = batch if backbone.value_range == BUILT_IN else model.get_layer("preprocess")(batch).numpy()
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=1e-4)

    features = model(batch, training=False).numpy()
    assert features.shape == (2, backbone.feature_size)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    # A random network still tells two images apart: the pixels do reach the features.
    assert np.ptp(features, axis=0).max() > 0

    path = tmp_path / "net.weights.h5"
    model.save_weights(path)
    keras.utils.set_random_seed(4)
    again = build(name, path, size_px=backbone.min_size_px)
    np.testing.assert_array_equal(again(batch, training=False).numpy(), features)

    # As part of a classifier it is saved and loaded too; the first network, emptied, stands for one that is built anew.
    config = ClassifierConfig(name, backbone.min_size_px, "stretch", False, HeadConfig(), ("a", "b"), 1.0, "")
    saved = TrainedClassifier.of_network(config, build_network(config, again))
    saved.save(tmp_path / "classifier")
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape, variable.dtype))
    monkeypatch.setattr("tlkeras.backbones.network.build", lambda *_, **__: model)
    loaded = TrainedClassifier.load(tmp_path / "classifier")
    np.testing.assert_array_equal(loaded.logits(batch), saved.logits(batch))


FIRST_OF_EACH_FAMILY = {
    backbone.family: name for name, backbone in reversed(BACKBONES.items()) if backbone.weights.url
}.values()
SIZE_PX = 96


@pytest.mark.parametrize("name", quick_or_slow({"mobilenet_v2", "efficientnet_b0"}, FIRST_OF_EACH_FAMILY))
def test_a_published_file_gives_the_features_that_keras_gives(name, tmp_path, monkeypatch):
    """Keras changes some networks under weights="imagenet"; ours, built without, must still agree."""
    backbone = get(name)
    module = own_module(backbone)
    constructor = constructor_of(backbone)
    options = {"include_top": False, "pooling": "avg", "input_shape": (SIZE_PX, SIZE_PX, 3)}
    options |= dict(backbone.arguments)

    keras.utils.set_random_seed(3)
    network = constructor(weights=None, **options)
    if backbone.family == "EfficientNet":
        # What the published files hold: standard deviations in the place of variances.
        normalization = next(layer for layer in network.layers if type(layer).__name__ == "Normalization")
        normalization.adapt_mean.assign(np.reshape([0.485, 0.456, 0.406], normalization.adapt_mean.shape))
        normalization.adapt_variance.assign(np.reshape([0.229, 0.224, 0.225], normalization.adapt_mean.shape))
    path = tmp_path / "models" / "net.h5"
    path.parent.mkdir()
    network.save(path)

    file_utils = importlib.import_module("keras.src.utils.file_utils")
    monkeypatch.setattr(file_utils, "get_file", lambda *args, **kwargs: str(path))
    batch = pixels(SIZE_PX, 1)
    theirs = constructor(weights="imagenet", **options)(module.preprocess_input(batch.copy()), training=False)

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    published = dataclasses.replace(backbone, weights=WeightsFile("net.h5", "https://example.invalid/net.h5", None))
    model = build(published, size_px=SIZE_PX)
    ours = model(batch, training=False).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())

    # Saved by us and loaded again, nothing is corrected twice.
    application(model).save_weights(tmp_path / "ours.weights.h5")
    again = build(backbone, tmp_path / "ours.weights.h5", size_px=SIZE_PX)
    np.testing.assert_array_equal(again(batch, training=False).numpy(), ours)
