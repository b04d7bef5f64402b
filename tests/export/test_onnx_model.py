"""The ONNX file: what it says, what it answers, and that every family of backbones gets into it."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.networks import small_classifier
from tlkeras import __version__
from tlkeras.errors import ConfigError
from tlkeras.export.onnx_model import HALF_MIN_ELEMENTS, write_half, write_onnx
from tlkeras.export.saved_model import OUTPUTS
from tlkeras.images import graph

CLASS_NAMES = ("cat", "Löwe", "zebra 🦓")


def pixels_of(count, height, width, seed=0):
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 4, 5, 3))
    smooth = coarse.repeat(-(-height // 4), axis=1)[:, :height].repeat(-(-width // 5), axis=2)[:, :, :width]
    return smooth.astype(np.uint8)


def answers_of(path, pixels):
    session = onnxruntime.InferenceSession(path)
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"pixels": pixels}), strict=True))


def expected_of(trained, pixels):
    config = trained.config
    squares = graph.fit_to_square(pixels, config.size_px, config.fit).numpy()
    logits = trained.logits(squares)
    return logits, trained.probabilities(logits)


@pytest.fixture(scope="module")
def trained():
    return small_classifier(CLASS_NAMES)


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(trained, path, top_k=2)
    return path


@pytest.mark.parametrize("shape", [(1, 32, 32), (7, 45, 61), (2, 200, 90), (3, 20, 17), (1, 1, 1)])
def test_it_answers_as_keras_does_at_any_size(trained, written, shape):
    pixels = pixels_of(*shape)
    got = answers_of(written, pixels)
    logits, probabilities = expected_of(trained, pixels)
    np.testing.assert_allclose(got["probabilities"], probabilities, rtol=0, atol=1e-4)
    np.testing.assert_allclose(got["logits"], logits, rtol=0, atol=1e-3)
    assert np.ptp(probabilities, axis=1).min() > 0.01
    best = np.argsort(-got["probabilities"], axis=1)[:, :2]
    np.testing.assert_array_equal(got["class_indices"], best)
    np.testing.assert_array_equal(got["scores"], np.take_along_axis(got["probabilities"], best, axis=1))
    assert got["features"].shape == (shape[0], 256)
    np.testing.assert_allclose(trained.head(got["features"]).numpy(), logits, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("fit", "mirror"), [("crop", False), ("pad", False), ("stretch", True)])
def test_every_fit_and_the_mirrored_view(fit, mirror, tmp_path):
    trained = small_classifier(CLASS_NAMES, fit=fit, mirror=mirror)
    write_onnx(trained, tmp_path / "model.onnx", top_k=1)
    pixels = pixels_of(2, 50, 71, seed=4)
    _, probabilities = expected_of(trained, pixels)
    np.testing.assert_allclose(answers_of(tmp_path / "model.onnx", pixels)["probabilities"], probabilities, atol=1e-4)


def test_what_the_file_says_of_itself(trained, written):
    model = onnx.load(written)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")] == [("", 18)]
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert tuple(json.loads(said["class_names"])) == CLASS_NAMES
    assert float(said["temperature"]) == trained.config.temperature
    assert (said["size_px"], said["fit"], said["backbone"], said["top_k"]) == ("32", "stretch", "mobilenet_0.25", "2")
    assert (said["weights_licence"], said["tlkeras_version"]) == ("Apache-2.0", __version__)
    (value,) = model.graph.input
    sides = value.type.tensor_type.shape.dim
    assert value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in sides] == ["N", "H", "W", 3]
    assert [output.name for output in model.graph.output] == list(OUTPUTS)
    assert all(output.type.tensor_type.shape.dim[0].dim_param == "N" for output in model.graph.output)


def test_half_weighs_half_and_answers_nearly_the_same(trained, written, tmp_path):
    half = tmp_path / "model_half.onnx"
    write_half(written, half)
    weights = sum(v.size for v in (w.numpy() for w in trained.network.weights) if v.size >= HALF_MIN_ELEMENTS)
    saved = written.stat().st_size - half.stat().st_size
    assert 1.8 * weights < saved <= 2 * weights
    model = onnx.load(half)
    onnx.checker.check_model(model, full_check=True)
    pixels = pixels_of(5, 45, 61, seed=2)
    got, full = answers_of(half, pixels), answers_of(written, pixels)
    assert all(got[name].dtype == full[name].dtype for name in OUTPUTS)
    difference = np.abs(got["probabilities"] - full["probabilities"]).max()
    assert 0 < difference <= 2e-2
    np.testing.assert_array_equal(got["class_indices"][:, 0], full["class_indices"][:, 0])


def test_weights_beyond_half_precision_stay_whole(tmp_path):
    trained = small_classifier(CLASS_NAMES)
    kernel = max(trained.network.weights, key=lambda weight: weight.numpy().size)
    values = kernel.numpy().copy()
    values.flat[0] = 1e6
    kernel.assign(values)
    write_onnx(trained, tmp_path / "whole.onnx", top_k=1)
    write_half(tmp_path / "whole.onnx", tmp_path / "half.onnx")
    assert np.isfinite(answers_of(tmp_path / "half.onnx", pixels_of(1, 40, 40))["logits"]).all()
    kept = [t for t in onnx.load(tmp_path / "half.onnx").graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert max(np.prod(t.dims) for t in kept) == values.size


@pytest.mark.parametrize("top_k", [0, 4])
def test_an_impossible_top_k_writes_nothing(trained, top_k, tmp_path):
    with pytest.raises(ConfigError, match=r"top_k must lie in 1\.\.3"):
        write_onnx(trained, tmp_path / "model.onnx", top_k=top_k)
    assert list(tmp_path.iterdir()) == []
