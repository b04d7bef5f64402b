"""Extraction: verified engines, one pass per image, resumable, and the same numbers whoever computes them."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.networks import small_network
from tests.pictures import encode, photo
from tlkeras import backbones, engines
from tlkeras.data.pipeline import pixel_batches
from tlkeras.errors import ConfigError, ImageError
from tlkeras.features import extract
from tlkeras.features.store import FeatureSpace, FeatureStore

SIZE = 32


@pytest.fixture(scope="module")
def network():
    return small_network(SIZE)


@pytest.fixture(scope="module")
def weights_sha256(network):
    return backbones.weights_sha256(network)


@pytest.fixture
def files(tmp_path):
    found = []
    for number in range(11):
        kind = ["JPEG", "PNG", "TIFF"][number % 3]
        path = tmp_path / f"{number}.bin"
        path.write_bytes(encode(photo(40 + number, 50, seed=number), kind))
        found.append(str(path))
    return found


@pytest.fixture
def store(weights_sha256, tmp_path):
    space = FeatureSpace("mobilenet_0.25", weights_sha256, SIZE, "crop", feature_size=256)
    return FeatureStore(space, tmp_path / "store")


def keys_of(files):
    return [f"key {path}" for path in files]


def expected_features(network, files):
    squares = np.empty((len(files), SIZE, SIZE, 3), np.float32)
    for indices, pixels in pixel_batches(files, SIZE, "crop"):
        squares[indices] = pixels
    return np.asarray(network(squares, training=False))


def test_a_network_converted_elsewhere_is_not_converted_again(network, weights_sha256, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "one"))
    converted = engines.prepare(network, weights_sha256, name="onnxruntime").read_bytes()
    assert engines.prepare(network, weights_sha256, name="tensorflow") is None
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "other"))
    engines.adopt(weights_sha256, SIZE, converted)
    monkeypatch.setattr("tlkeras.onnx_graph.convert", None)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 3)).astype(np.float32)
    engine = engines.open_engine(network, weights_sha256, pixels, name="onnxruntime")
    assert engine.difference <= engines.TOLERANCE["fp32"]


@pytest.mark.parametrize("name", engines.ENGINES)
def test_every_engine_gives_what_keras_gives(name, network, weights_sha256, files):
    if not importlib.util.find_spec(name):
        pytest.skip(f"needs {name}")
    pixels = next(pixel_batches(files, SIZE, "crop"))[1]
    engine = engines.open_engine(network, weights_sha256, pixels, name=name)
    assert engine.name == name
    assert engine.difference <= 1e-4
    for count in (1, 7):
        got = engine.run(np.ascontiguousarray(pixels[:count]))
        assert engines.relative_difference(got, np.asarray(network(pixels[:count], training=False))) <= 1e-4


def test_a_prepared_network_is_not_converted_again(network, weights_sha256, files, monkeypatch):
    def again(*_):
        raise AssertionError("converted again")

    engines.prepare(network, weights_sha256, name="onnxruntime")
    monkeypatch.setattr("tlkeras.onnx_graph.convert", again)
    pixels = next(pixel_batches(files, SIZE, "crop"))[1]
    assert engines.open_engine(network, weights_sha256, pixels, name="onnxruntime").difference <= 1e-4


def test_what_cannot_be_converted_is_left_to_the_choice_of_an_engine(network, weights_sha256, files, monkeypatch):
    def impossible(*_):
        raise ValueError("no such operation")

    monkeypatch.setattr("tlkeras.onnx_graph.convert", impossible)
    engines.prepare(network, weights_sha256, name="onnxruntime")
    engines.prepare(network, weights_sha256, name="no engine of this name")
    pixels = next(pixel_batches(files, SIZE, "crop"))[1]
    with pytest.raises(ConfigError, match="no such operation"):
        engines.open_engine(network, weights_sha256, pixels, name="onnxruntime")


def test_an_engine_that_differs_is_dropped_with_a_warning(network, weights_sha256, files, monkeypatch):
    pixels = next(pixel_batches(files, SIZE, "crop"))[1]

    def wrong(network, weights_sha256, precision, threads):
        return lambda pixels: np.asarray(network(pixels, training=False)) * 1.001

    def broken(network, weights_sha256, precision, threads):
        raise RuntimeError("no kernel for this\nand more lines")

    monkeypatch.setattr(engines, "installed", lambda: ("openvino", "onnxruntime", "tensorflow"))
    monkeypatch.setattr(engines, "_BUILDERS", {"openvino": broken, "onnxruntime": wrong})
    with pytest.warns(UserWarning, match="trying the next engine") as caught:
        engine = engines.open_engine(network, weights_sha256, pixels)
    assert engine.name == "tensorflow"
    words = [str(warning.message) for warning in caught]
    assert any("openvino cannot run this network (no kernel for this)" in line for line in words)
    assert any("onnxruntime differs from Keras by 1.0e-03" in line for line in words)
    with pytest.raises(ConfigError, match="onnxruntime differs"):
        engines.open_engine(network, weights_sha256, pixels, name="onnxruntime")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "openvno"}, "did you mean 'openvino'"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"name": "onnxruntime", "precision": "bf16"}, "bf16 is computed by OpenVINO only"),
    ],
)
def test_impossible_engines_are_named(options, words, network):
    with pytest.raises(ConfigError, match=words):
        engines.open_engine(network, "0" * 64, np.zeros((1, SIZE, SIZE, 3), np.float32), **options)


def test_an_engine_that_is_not_installed_says_how_to_get_it(network, monkeypatch):
    monkeypatch.setattr(engines, "installed", lambda: ("tensorflow",))
    with pytest.raises(ConfigError, match=r"openvino is not installed.*pip install"):
        engines.open_engine(network, "0" * 64, np.zeros((1, SIZE, SIZE, 3), np.float32), name="openvino")


def test_each_image_is_computed_once_and_new_ones_are_paid_for_alone(network, files, store):
    def build():
        nonlocal built
        built += 1
        return network

    built = 0
    first = extract.extract(files[:8], keys_of(files[:8]), [store], build)
    assert (first.computed, first.reused, built) == (8, 0, 1)
    again = extract.extract(files[:8], keys_of(files[:8]), [store], build)
    assert (again.computed, again.reused, again.engine, built) == (0, 8, None, 1)
    more = extract.extract(files, keys_of(files), [store], build)
    assert (more.computed, more.reused) == (3, 8)
    twice = [files[0], files[0]]
    assert extract.extract(twice, ["same", "same"], [store], build).computed == 1
    got = store.gather(keys_of(files))
    assert engines.relative_difference(got, expected_features(network, files)) <= 1e-4


def test_views_of_an_image(network, files, store):
    mirrored = FeatureStore(FeatureSpace(**{**store.space.__dict__, "view": "mirrored"}), store.folder.parent)
    extract.extract(files[:2], keys_of(files[:2]), [store, mirrored], lambda: network)
    _, pixels = next(pixel_batches(files[:2], SIZE, "crop"))
    expected = np.asarray(network(pixels[:, :, ::-1], training=False))
    assert engines.relative_difference(mirrored.gather(keys_of(files[:2])), expected) <= 1e-4
    assert not np.allclose(store.gather(keys_of(files[:2])), expected, atol=1e-3)


def test_an_interrupted_pass_keeps_what_was_finished(network, files, store):
    def stop_after_first(done, total):
        raise KeyboardInterrupt

    arguments = (files, keys_of(files), [store], lambda: network)
    with pytest.raises(KeyboardInterrupt):
        extract.extract(*arguments, batch_size=4, progress=stop_after_first)
    reopened = FeatureStore(store.space, store.folder.parent)
    assert len(reopened) == 4
    resumed = extract.extract(files, keys_of(files), [reopened], lambda: network)
    assert (resumed.computed, resumed.reused) == (7, 4)
    expected = expected_features(network, files)
    assert engines.relative_difference(reopened.gather(keys_of(files)), expected) <= 1e-4


def test_a_file_that_went_bad_costs_neither_the_pass_nor_its_neighbours(network, files, store):
    Path(files[3]).write_bytes(b"no image any more")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = extract.extract(files, keys_of(files), [store], lambda: network)
    assert [index for index, _ in done.failed] == [3]
    assert done.failed[0][1].reason == "not_an_image"
    assert done.computed == 10
    good = [file for i, file in enumerate(files) if i != 3]
    expected = expected_features(network, good)
    assert engines.relative_difference(store.gather(keys_of(good)), expected) <= 1e-4
    with pytest.raises(ImageError, match=r"3\.bin"):
        list(pixel_batches(files, SIZE, "crop"))
