import dataclasses
import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tlkeras.backbones
from tlkeras.backbones import BACKBONES, get, locate, names
from tlkeras.backbones.network import constructor_of
from tlkeras.backbones.table import VALUE_RANGES
from tlkeras.errors import ConfigError

TOOL = Path(__file__).parents[2] / "tools" / "backbone_table.py"


PUBLISHED = [name for name in names() if get(name).weights.url]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("backbone_table", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("top", [False, True], ids=["no-top", "top"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_files_are_those_that_the_installed_keras_asks_for(tool, name, top):
    backbone = get(name)
    ours = backbone.weights_top if top else backbone.weights
    assert tool.asked_for(backbone, top=top) == dataclasses.replace(ours, tensors=None)


def test_the_tool_writes_the_data_file_as_it_is(tool):
    data = Path(tlkeras.backbones.__file__).with_name("imagenet_weights.json")
    assert json.loads(data.read_text()) == tool.listed({})


def test_the_table_has_every_image_network_of_keras_applications():
    import inspect

    import keras

    theirs = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    ours = {get(name).constructor for name in PUBLISHED}
    assert ours == {f"keras.applications.{name}" for name in theirs}


def test_size_is_the_one_that_keras_takes_for_the_top():
    # Where Keras has a table of its own, ours agrees with it; the others are checked by their signatures.
    from keras.src.applications.convnext import MODEL_CONFIGS

    for kind, config in MODEL_CONFIGS.items():
        assert get(f"convnext_{kind}").size_px == config["default_size"]
    for name in ("vgg16", "inception_v3", "xception", "nasnet_mobile"):
        backbone = get(name)
        network = constructor_of(backbone)(weights=None)
        assert network.input_shape == (None, backbone.size_px, backbone.size_px, 3)


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=names())
def test_rows_are_plausible(backbone):
    assert backbone.value_range in VALUE_RANGES
    assert 32 <= backbone.min_size_px < backbone.size_px
    if backbone.weights.package:
        assert backbone.weights == backbone.weights_top
        assert len(backbone.weights.hash) == len(backbone.weights.tensors) == 64
        return
    assert backbone.weights != backbone.weights_top
    if backbone.embedded:
        assert locate(backbone.weights).parent == Path(tlkeras.backbones.__file__).parent
        assert len(backbone.weights.hash) == 64
        return
    for file in (backbone.weights, backbone.weights_top):
        assert file.url.startswith("https://storage.googleapis.com/")
        assert file.hash is None or (len(file.hash) in (32, 64) and int(file.hash, 16) >= 0)
        assert file.hash is not None or backbone.family in ("MobileNet", "MobileNetV2")
    with pytest.raises(dataclasses.FrozenInstanceError):
        backbone.name = "other"


def test_file_names_are_unique():
    rows = [get(name) for name in PUBLISHED]
    files = [file for b in rows for file in (b.weights.file_name, b.weights_top.file_name)]
    assert len(set(files)) == len(files) == 2 * len(PUBLISHED)


def test_the_extra_brings_the_package_that_the_table_names():
    project = tomllib.loads((TOOL.parents[1] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["imagenet"] == [f"{get('efficientnet_lite0').weights.package}==0.1.0"]


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        get("mobilnet_v2")
    assert str(caught.value) == (
        "unknown backbone 'mobilnet_v2'; did you mean 'mobilenet_v2'? 'tlkeras backbones' lists all."
    )


def test_import_needs_no_keras():
    code = "import sys, tlkeras.backbones; sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
