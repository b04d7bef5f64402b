"""Blocks are told by structure, for every family alike."""

import keras
import pytest

from tlkeras.backbones import BACKBONES, application, build
from tlkeras.backbones.blocks import blocks

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
