"""Inner layers of nested networks: the same numbers as the layers give on their own, and the same output."""

import keras
import numpy as np
import pytest

from tests.networks import small_network
from tlkeras import backbones
from tlkeras.backbones import BACKBONES, application, build
from tlkeras.backbones.layers import blocks, last_maps, last_of_each_size, layer_rows, with_layers
from tlkeras.errors import ConfigError
from tlkeras.heads.config import HeadConfig
from tlkeras.trained import ClassifierConfig, build_network

LAYERS = ("conv1_relu", "conv_pw_6_relu", "conv_pw_13_relu")


def classifier(mirror):
    config = ClassifierConfig("mobilenet_0.25", 32, "crop", mirror, HeadConfig(), ("a", "b", "c"), 1.0, "")
    return build_network(config, small_network())


def with_top():
    return backbones.build("mobilenet_0.25", "none", size_px=32, top=True)


@pytest.mark.parametrize(
    "make",
    [with_top, small_network, lambda: classifier(False), lambda: classifier(True)],
    ids=["with its top", "features", "classifier", "mirrored classifier"],
)
def test_inner_outputs_are_those_of_the_nested_network(make):
    model = make()
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    outputs = with_layers(model, LAYERS)(pixels, training=False)
    np.testing.assert_allclose(outputs[""], model(pixels, training=False), rtol=1e-5, atol=1e-6)
    inner = backbones.application(model)
    alone = keras.Model(inner.inputs, [inner.get_layer(name).output for name in LAYERS])
    expected = alone(pixels / 127.5 - 1.0, training=False)
    for name, values in zip(LAYERS, expected, strict=True):
        assert np.ptp(values) > 0
        np.testing.assert_allclose(outputs[name], values, rtol=1e-4, atol=1e-5)


def test_the_network_itself_is_left_as_it_was():
    model = classifier(False)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    before, layers = model(pixels).numpy(), [layer.name for layer in model.layers]
    inside = with_layers(model, LAYERS[:1])
    assert [layer.name for layer in model.layers] == layers
    np.testing.assert_array_equal(model(pixels), before)
    # The weights are shared: what is fine-tuned later shows at once.
    backbones.application(model).get_layer("conv1").kernel.assign_add(1e-2 * np.ones((3, 3, 3, 8)))
    np.testing.assert_allclose(inside(pixels)[""], model(pixels), rtol=1e-5, atol=1e-6)
    assert not np.allclose(model(pixels), before)


SHOWN = [("vgg16", "block1_conv2", "block5_conv3"), ("mobilenet_v2", "block_1_expand_relu", "out_relu")]


@pytest.mark.parametrize(("name", "first", "last"), SHOWN)
def test_the_layers_that_are_shown_by_default_go_from_large_to_small(name, first, last):
    model = backbones.build(name, "none", size_px=64)
    rows = {row.name: row for row in layer_rows(model)}
    shown = last_of_each_size(model)
    heights = [rows[layer].shape[0] for layer in shown]
    assert heights == sorted(set(heights), reverse=True)
    assert (shown[0], shown[-1]) == (first, last)
    assert last_maps(model) == last


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({row.family for row in backbones.BACKBONES.values()}))
def test_every_family_can_be_looked_into(family):
    row = min((row for row in backbones.BACKBONES.values() if row.family == family), key=lambda row: row.parameters)
    size_px = max(96, row.min_size_px)
    model = backbones.build(row.name, "none", size_px=size_px)
    shown = last_of_each_size(model)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, size_px, size_px, 3)).astype(np.float32)
    outputs = with_layers(model, [*shown, last_maps(model)])(pixels, training=False)
    np.testing.assert_allclose(outputs[""], model(pixels, training=False), rtol=1e-4, atol=1e-5)
    assert len(shown) >= 3
    assert all(np.ptp(outputs[name]) > 0 for name in shown)


def test_an_unknown_layer_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'conv1_relu'"):
        with_layers(small_network(), ["conv1_rel"])


# Blocks: what lies at one resolution.


FIRST_OF_EACH_FAMILY = {backbone.family: name for name, backbone in reversed(BACKBONES.items())}
# Heavy to build, and like their families; `make test-all` looks at them too.
SLOW = {"NASNet", "InceptionResNetV2", "EfficientNetV2", "DenseNet", "ConvNeXt"}


@pytest.fixture(autouse=True)
def free_memory():
    yield
    keras.backend.clear_session()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if f in SLOW else ()) for f, n in FIRST_OF_EACH_FAMILY.items()],
)
def test_every_weight_of_every_family_is_in_one_block(name):
    size_px = max(96, BACKBONES[name].min_size_px)
    model = build(name, "none", size_px=size_px)
    found = blocks(model)
    inside = [layer.name for layer in application(model).layers if layer.weights]
    listed = [layer.name for block in found for layer in block.layers]
    assert sorted(listed) == sorted(inside)
    assert sum(len(block.variables) for block in found) == len(model.weights)
    # Each network halves its input some five times; each block is one resolution, none is empty.
    assert 4 <= len(found) <= 7
    assert [block.shrinkage for block in found] == sorted({block.shrinkage for block in found})
    # Blocks follow each other as the layers do: the first layer stands in the first, the last in the last.
    assert inside[0] in {layer.name for layer in found[0].layers}
    assert inside[-1] in {layer.name for layer in found[-1].layers}


def test_blocks_are_those_that_papers_number():
    names = [{layer.name[:6] for layer in block.layers} for block in blocks(build("vgg16", "none", size_px=64))]
    assert names == [{f"block{number}"} for number in range(1, 6)]


@pytest.mark.parametrize("size_px", [32, 96])
def test_the_blocks_do_not_hang_on_the_size(size_px):
    # At 32 px a padding makes 3 x 3 of 2 x 2 maps; that is no step back.
    firsts = [block.layers[0].name for block in blocks(build("mobilenet_0.25", "none", size_px=size_px))]
    assert firsts == ["conv1", "conv_dw_2", "conv_dw_4", "conv_dw_6", "conv_dw_12"]


def test_squeeze_and_excitation_stays_with_its_maps():
    for block in blocks(build("mobilenet_v3_small", "none", size_px=64))[:-1]:
        assert not any(layer.name.startswith("conv_1") for layer in block.layers)
    model = build("efficientnet_b0", "none", size_px=64)
    home = {layer.name: number for number, block in enumerate(blocks(model)) for layer in block.layers}
    for name, number in home.items():
        if name.endswith("_se_reduce"):
            assert number == home[name.replace("_se_reduce", "_bn")], name
