"""A converted network that proves itself: Keras is asked once, and not at all where another runtime comes along."""

import hashlib
import json

import numpy as np
import pytest

from tests.networks import small_network
from tlkeras import graphs
from tlkeras.backbones.frozen import Frozen, of_network
from tlkeras.engines import TOLERANCE, open_engine
from tlkeras.storage import clear_cache


@pytest.fixture(scope="module")
def backbone():
    return of_network("mobilenet_0.25", small_network())


@pytest.fixture
def without_keras(backbone):
    """The same backbone, of which Keras can build no network any more."""
    _ = graphs.find(backbone) or graphs.make(backbone)
    return Frozen("mobilenet_0.25", 32, backbone.sha256, build=lambda: pytest.fail("Keras was asked"))


def about(backbone):
    return graphs.find(backbone).path.with_name("graph.json")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_engine_is_compared_with_what_keras_said_once_for_each_version_of_it(name, without_keras, monkeypatch):
    pytest.importorskip(name)
    told = json.loads(about(without_keras).read_text())
    about(without_keras).write_text(json.dumps({**told, "verified": {}}))
    found = open_engine(without_keras, name=name)
    assert 0 < found.difference <= TOLERANCE["fp32"]
    noted = json.loads(about(without_keras).read_text())["verified"]
    assert list(noted.values()) == [found.difference]
    monkeypatch.setattr(graphs, "probe", lambda size_px: pytest.fail("compared again"))
    assert open_engine(without_keras, name=name).difference == found.difference
    monkeypatch.setattr(graphs, "processor", lambda: "another")
    with pytest.raises(pytest.fail.Exception, match="compared again"):
        open_engine(without_keras, name=name)


@pytest.mark.parametrize("file", ["graph.onnx", "graph.json"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), lambda path: path.unlink()])
def test_what_is_not_whole_is_made_again(file, damage, backbone, without_keras):
    path = graphs.find(backbone).path.with_name(file)
    damage(path)
    assert graphs.find(backbone) is None
    with pytest.raises(pytest.fail.Exception, match="Keras was asked"):
        open_engine(without_keras, name="onnxruntime")
    assert open_engine(backbone, name="onnxruntime").difference <= TOLERANCE["fp32"]
    assert graphs.find(backbone) is not None


def test_another_machine_takes_it_over(backbone, without_keras, tmp_path, monkeypatch):
    packed = graphs.pack(backbone)
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "other"))
    assert graphs.pack(backbone) is None
    graphs.adopt(without_keras, packed)
    assert open_engine(without_keras, name="onnxruntime").difference <= TOLERANCE["fp32"]
    old = tmp_path / "other" / "engines" / "0-224-r1-opset18.onnx"
    old.write_bytes(b"as 0.1 kept them")
    freed, left = clear_cache()
    assert freed > 0
    assert left == []


@pytest.mark.parametrize("size_px", [32, 96, 331])
def test_drawn_images_are_the_same_everywhere_and_use_the_range(size_px):
    images = graphs.probe(size_px)
    assert images.shape == (8, size_px, size_px, 3)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert 200 < images.max() <= 255
    assert len({image.tobytes() for image in images}) == 8
    np.testing.assert_array_equal(images[0, 0, 0], images[0, size_px // 2 - 1, 0])


def test_they_stay_as_they_are():
    # A change makes every kept graph worthless: raise graphs.FORMAT_VERSION with it.
    assert (
        hashlib.sha256(graphs.probe(32).tobytes()).hexdigest()
        == "58639964999743179a38792a8ed09ad4b7de6419f0d552a7d3e113bedd1b0aac"
    )
