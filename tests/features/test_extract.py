"""Extraction: verified engines, one pass per image, resumable, and the same numbers whoever computes them."""

import importlib.util
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.networks import small_network
from tests.pictures import encode, photo
from tlkeras import engines
from tlkeras.backbones.frozen import of_network
from tlkeras.data.pipeline import pixel_batches
from tlkeras.errors import ConfigError, ImageError, WeightsError
from tlkeras.features import source
from tlkeras.features.store import FeatureSpace, FeatureStore
from tlkeras.graphs import relative_difference
from tlkeras.images.resize import fit_to_square

SIZE = 32


@pytest.fixture(scope="module")
def network():
    return small_network(SIZE)


@pytest.fixture(scope="module")
def backbone(network, tmp_path_factory):
    return of_network("mobilenet_0.25", network)


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
def store(backbone, tmp_path):
    return FeatureStore(FeatureSpace.of(backbone, fit="crop"), tmp_path / "store")


def keys_of(files):
    return [f"key {path}" for path in files]


def expected_features(network, files):
    squares = np.empty((len(files), SIZE, SIZE, 3), np.float32)
    for indices, pixels in pixel_batches(files, SIZE, "crop"):
        squares[indices] = pixels
    return np.asarray(network(squares, training=False))


@pytest.mark.parametrize("name", engines.ENGINES)
def test_every_engine_gives_what_keras_gives(name, network, backbone, files):
    if not importlib.util.find_spec(name):
        pytest.skip(f"needs {name}")
    pixels = next(pixel_batches(files, SIZE, "crop"))[1]
    engine = engines.open_engine(backbone, name=name)
    assert engine.name == name
    assert engine.difference <= 1e-4
    for count in (1, 7):
        got = engine.run(np.ascontiguousarray(pixels[:count]))
        assert relative_difference(got, np.asarray(network(pixels[:count], training=False))) <= 1e-4


def test_few_images_are_left_to_the_engine_that_is_ready_first(backbone, monkeypatch):
    opened = []
    monkeypatch.setattr(engines, "installed", lambda: ("openvino", "onnxruntime", "tensorflow"))
    monkeypatch.setattr(engines, "open_engine", lambda *_, **options: opened.append(options["few"]))
    for images in (None, engines.FEW, engines.FEW - 1):
        engines.Runner(backbone, images=images).open()
    assert opened == [False, False, True]
    assert engines._candidates(few=True) == ("onnxruntime", "openvino", "tensorflow")


def test_what_cannot_be_converted_is_left_to_the_choice_of_an_engine(backbone, monkeypatch):
    def impossible(*_):
        raise ValueError("no such operation")

    monkeypatch.setattr("tlkeras.graphs.find", lambda backbone: None)
    monkeypatch.setattr("tlkeras.graphs.convert", impossible)
    engines.prepare(backbone, name="onnxruntime")
    engines.prepare(backbone, name="no engine of this name")
    with pytest.raises(ConfigError, match="no such operation"):
        engines.open_engine(backbone, name="onnxruntime")


def test_an_engine_that_differs_is_dropped_with_a_warning(network, backbone, monkeypatch):
    def wrong(graph, precision, threads):
        return lambda pixels: np.asarray(network(pixels, training=False)) * 1.001

    def broken(graph, precision, threads):
        raise RuntimeError("no kernel for this\nand more lines")

    monkeypatch.setattr(engines, "installed", lambda: ("openvino", "onnxruntime", "tensorflow"))
    monkeypatch.setattr(engines, "_BUILDERS", {"openvino": broken, "onnxruntime": wrong})
    monkeypatch.setattr("tlkeras.graphs.processor", lambda: "one that nothing was compared on")
    with pytest.warns(UserWarning, match="trying the next engine") as caught:
        engine = engines.open_engine(backbone)
    assert engine.name == "tensorflow"
    words = [str(warning.message) for warning in caught]
    assert any("openvino cannot run this network (no kernel for this)" in line for line in words)
    assert any("onnxruntime differs from Keras by 1.0e-03" in line for line in words)
    with pytest.raises(ConfigError, match="onnxruntime differs"):
        engines.open_engine(backbone, name="onnxruntime")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "openvno"}, "did you mean 'openvino'"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"name": "onnxruntime", "precision": "bf16"}, "bf16 is computed by OpenVINO only"),
    ],
)
def test_impossible_engines_are_named(options, words, backbone):
    with pytest.raises(ConfigError, match=words):
        engines.open_engine(backbone, **options)


def test_an_engine_that_is_not_installed_says_how_to_get_it(backbone, monkeypatch):
    monkeypatch.setattr(engines, "installed", lambda: ("tensorflow",))
    with pytest.raises(ConfigError, match=r"openvino is not installed.*pip install"):
        engines.open_engine(backbone, name="openvino")


def test_each_image_is_computed_once_and_new_ones_are_paid_for_alone(network, backbone, files, store):
    first = source.extract(files[:8], keys_of(files[:8]), source.Pass([store], backbone))
    assert (first.computed, first.reused) == (8, 0)
    again = source.extract(files[:8], keys_of(files[:8]), source.Pass([store], backbone))
    assert (again.computed, again.reused, again.engine) == (0, 8, None)
    more = source.extract(files, keys_of(files), source.Pass([store], backbone))
    assert (more.computed, more.reused) == (3, 8)
    twice = [files[0], files[0]]
    assert source.extract(twice, ["same", "same"], source.Pass([store], backbone)).computed == 1
    got = store.gather(keys_of(files))
    assert relative_difference(got, expected_features(network, files)) <= 1e-4


def test_views_of_an_image(network, backbone, files, store):
    mirrored = FeatureStore(FeatureSpace(**{**store.space.__dict__, "view": "mirrored"}), store.folder.parent)
    source.extract(files[:2], keys_of(files[:2]), source.Pass([store, mirrored], backbone))
    _, pixels = next(pixel_batches(files[:2], SIZE, "crop"))
    expected = np.asarray(network(pixels[:, :, ::-1], training=False))
    assert relative_difference(mirrored.gather(keys_of(files[:2])), expected) <= 1e-4
    assert not np.allclose(store.gather(keys_of(files[:2])), expected, atol=1e-3)


def test_an_interrupted_pass_keeps_what_was_finished(network, backbone, files, store):
    def stop_after_first(done, total):
        raise KeyboardInterrupt

    arguments = (files, keys_of(files), source.Pass([store], backbone))
    with pytest.raises(KeyboardInterrupt):
        source.extract(*arguments, batch_size=4, progress=stop_after_first)
    reopened = FeatureStore(store.space, store.folder.parent)
    assert len(reopened) == 4
    resumed = source.extract(files, keys_of(files), source.Pass([reopened], backbone))
    assert (resumed.computed, resumed.reused) == (7, 4)
    expected = expected_features(network, files)
    assert relative_difference(reopened.gather(keys_of(files)), expected) <= 1e-4


def test_what_was_computed_beside_an_audit_is_stored_when_it_is_interrupted(network, backbone, store):
    space = FeatureSpace(**vars(store.space))
    begun = source.FeatureSource(backbone, [space], engine="tensorflow")
    pictures = {f"{number:064x}": np.asarray(photo(50, 40, number)) for number in range(40)}

    def interrupted_audit():
        with source.Ahead(lambda: begun, SIZE, "crop") as ahead:
            for key, pixels in pictures.items():
                ahead.hand_on(key, pixels)
            while not (ahead._begun and ahead._begun.computed):
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_audit()
    kept = FeatureStore(space)
    assert kept.holds(list(pictures)).sum() >= 32
    first = next(iter(pictures))
    square = fit_to_square(pictures[first], SIZE, "crop")
    assert relative_difference(kept.gather([first]), np.asarray(network(square[None], training=False))) <= 1e-4

    def missing():
        raise WeightsError("no weights")

    with source.Ahead(missing, SIZE, "crop") as ahead:
        ahead.hand_on("key", pictures[first])
        with pytest.raises(WeightsError):
            ahead.finish(lambda done, total: None, 1)


def test_a_file_that_went_bad_costs_neither_the_pass_nor_its_neighbours(network, backbone, files, store):
    Path(files[3]).write_bytes(b"no image any more")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = source.extract(files, keys_of(files), source.Pass([store], backbone))
    assert [index for index, _ in done.failed] == [3]
    assert done.failed[0][1].reason == "not_an_image"
    assert done.computed == 10
    good = [file for i, file in enumerate(files) if i != 3]
    expected = expected_features(network, good)
    assert relative_difference(store.gather(keys_of(good)), expected) <= 1e-4
    with pytest.raises(ImageError, match=r"3\.bin"):
        list(pixel_batches(files, SIZE, "crop"))
