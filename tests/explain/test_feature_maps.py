"""Feature maps of a photo: the layers' own numbers, their statistics, and pictures that show them."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from tests.pictures import photo
from tlkeras import backbones
from tlkeras.errors import ConfigError, ImageError
from tlkeras.explain.feature_maps import LayerMaps, feature_maps, grid, overview
from tlkeras.images.arrays import figure_bytes
from tlkeras.target import load_target


@pytest.fixture(scope="module")
def target(run_folder):
    return load_target(run_folder)


def test_maps_are_those_of_the_layers(target):
    found = feature_maps(target, photo(50, 40), ["conv1_relu", "conv_pw_3_relu"])
    inner = backbones.application(target.network)
    alone = keras.Model(inner.inputs, inner.get_layer("conv_pw_3_relu").output)
    expected = alone(found.pixels[None] / 127.5 - 1.0, training=False)[0]
    assert [layer.layer for layer in found.layers] == ["conv1_relu", "conv_pw_3_relu"]
    np.testing.assert_allclose(found.layers[1].maps, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.pixels, target.load(photo(50, 40)))


def test_without_layers_each_size_shows_its_last(target):
    heights = [layer.maps.shape[0] for layer in feature_maps(target, photo(50, 40)).layers]
    assert heights == [16, 8, 4, 2]


def test_statistics_count_what_is_there():
    maps = np.zeros((2, 2, 3), np.float32)
    maps[..., 1] = [[1, 2], [3, 4]]
    maps[0, 0, 2] = -9
    row = LayerMaps("layer", "ReLU", maps).statistics()
    assert (row["min"], row["max"], row["zero_share"], row["dead_channels"]) == (-9, 4, pytest.approx(7 / 12), 1)
    assert row["mean"] == pytest.approx(1 / 12, abs=1e-6)
    assert row["strongest_channels"] == [2, 1, 0]


def test_pictures_show_the_strongest_channels(target):
    found = feature_maps(target, photo(50, 40))
    picture = grid(found.layers[0], channels=6)
    titles = [int(axis.get_title()) for axis in picture.axes]
    assert titles == found.layers[0].strongest(6).tolist()
    with pytest.raises(ConfigError, match="at least one channel"):
        grid(found.layers[0], channels=0)
    for figure in (picture, overview(found), overview(feature_maps(target, photo(9, 9), ["conv1_relu"]))):
        pixels = np.asarray(Image.open(io.BytesIO(figure_bytes(figure))).convert("RGB"))
        assert pixels.std() > 20


def test_what_is_not_there_is_refused(target, tmp_path):
    with pytest.raises(ConfigError, match="unknown layer 'conv99'"):
        feature_maps(target, photo(50, 40), ["conv99"])
    with pytest.raises(ImageError, match="no such image"):
        feature_maps(target, tmp_path / "absent.jpg")
