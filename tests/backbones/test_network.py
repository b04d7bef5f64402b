import dataclasses
import warnings

import h5py
import keras
import numpy as np
import pytest

from tlkeras.backbones import application, build, get, scale_pixels_class, weights_sha256
from tlkeras.errors import ConfigError, WeightsError

SMALL = "mobilenet_0.25"


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(1)
    return build(SMALL, "none", size_px=32)


@pytest.fixture
def saved(small, tmp_path):
    path = tmp_path / "net.weights.h5"
    application(small).save_weights(path)
    return path


def pixels(size_px, count=2):
    return np.random.default_rng(0).uniform(0, 255, (count, size_px, size_px, 3)).astype("float32")


def test_names_and_dtypes(small):
    assert small.name == SMALL
    assert [layer.name for layer in small.layers] == ["pixels", "preprocess", "mobilenet_0.25_32"]
    assert small.inputs[0].dtype == small.outputs[0].dtype == "float32"
    assert small.input_shape == (None, 32, 32, 3)


def test_default_size():
    assert build(get(SMALL), "none").input_shape == (None, 224, 224, 3)


def test_application_is_found_also_inside_a_classifier(small):
    network = application(small)
    assert network.name == "mobilenet_0.25_32"
    assert application(network_on(small, small.output, small.input)) is network
    again = keras.Input((32, 32, 3), name="pixels")
    assert application(network_on(small, small(again), again)) is network


def network_on(model, features, inputs):
    return keras.Model(inputs, keras.layers.Dense(3)(features))


def test_tensors_that_are_not_the_published_ones_are_told(small, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    row = get(SMALL)
    (tmp_path / "models").mkdir()
    application(small).save(tmp_path / "models" / row.weights.file_name)
    with pytest.warns(UserWarning, match=r"_no_top\.h5 are not the published ones"):
        build(SMALL, size_px=32)
    ours = dataclasses.replace(row.weights, tensors=weights_sha256(small))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(dataclasses.replace(row, weights=ours), size_px=32)


def test_application_of_another_model():
    inputs = keras.Input((4,))
    with pytest.raises(ConfigError, match="the network of a backbone"):
        application(keras.Model(inputs, keras.layers.Dense(2)(inputs)))


@pytest.mark.parametrize("name", [SMALL, "mobilenet_v3_small_minimalistic", "efficientnet_b0"])
def test_top_gives_logits(name):
    model = build(name, "none", size_px=64, top=True)
    logits = model(pixels(64)).numpy()
    assert logits.shape == (2, 1000)
    # Probabilities would be positive and add up to one.
    assert logits.min() < 0
    assert np.abs(logits.sum(axis=1) - 1).min() > 1e-3


@pytest.mark.parametrize(
    ("name", "size_px", "top", "word"),
    [
        (SMALL, 31, False, "at least 32 px; received 31"),
        ("xception", 70, False, "at least 71 px"),
        ("inception_v3", 74, True, "at least 75 px"),
        ("vgg16", 256, True, "224 px only"),
        ("vgg99", 224, False, "unknown backbone 'vgg99'"),
    ],
)
def test_refused(name, size_px, top, word):
    with pytest.raises(ConfigError, match=word):
        build(name, "none", size_px=size_px, top=top)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ConfigError, match="channels_last"):
            build(SMALL, "none")
    finally:
        keras.config.set_image_data_format("channels_last")


def test_random_weights_follow_the_seed():
    hashes = []
    for seed in (5, 5, 6):
        keras.utils.set_random_seed(seed)
        hashes.append(weights_sha256(build(SMALL, "none", size_px=32)))
    assert hashes[0] == hashes[1] != hashes[2]


def test_hash_sees_values_only(small):
    before = weights_sha256(small)
    small.trainable = False
    assert weights_sha256(small) == before
    small.trainable = True
    kernel = small.weights[-1]
    kept = kernel.numpy()
    kernel.assign(kept + 1e-6 * np.eye(1, kept.size).reshape(kept.shape))
    assert weights_sha256(small) != before
    kernel.assign(kept)
    assert weights_sha256(small) == before


@pytest.mark.parametrize("value_range", ["caffe", "tf", "torch"])
def test_preprocessing_layer_survives_saving(tmp_path, value_range):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, scale_pixels_class()(value_range, name="preprocess")(inputs))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(pixels(8)), model(pixels(8)))
    assert again.get_layer("preprocess").value_range == value_range


def test_preprocessing_layer_refuses_other_ranges():
    with pytest.raises(ConfigError, match="'float'"):
        scale_pixels_class()("float")


def test_preprocessing_stays_exact_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build("resnet50", "none", size_px=32)
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = model.get_layer("preprocess")(pixels(32)).numpy()
    expected = keras.applications.resnet50.preprocess_input(pixels(32))
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["application.weights.h5", "application.h5", "built.weights.h5"])
def test_own_weights(small, tmp_path, kind):
    source = small if kind.startswith("built") else application(small)
    path = tmp_path / kind
    source.save_weights(path) if kind.endswith(".weights.h5") else source.save(path)
    model = build(SMALL, path, size_px=32)
    assert weights_sha256(model) == weights_sha256(small)
    np.testing.assert_array_equal(model(pixels(32)), small(pixels(32)))


def test_legacy_weights_of_the_whole_model(small, tmp_path):
    small.save(tmp_path / "built.h5")
    assert weights_sha256(build(SMALL, tmp_path / "built.h5", size_px=32)) == weights_sha256(small)


@pytest.mark.parametrize("name", ["mobilenet_0.50", "mobilenet_v2_0.35", "vgg16"])
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_of_another_network(small, tmp_path, name, legacy):
    path = tmp_path / ("net.h5" if legacy else "net.weights.h5")
    application(small).save(path) if legacy else application(small).save_weights(path)
    with pytest.raises(WeightsError) as caught:
        build(name, path, size_px=32)
    assert f"must fit {name} without its ImageNet top" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "no layers"])
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_damaged_file(saved, tmp_path, damage, suffix):
    path = tmp_path / f"bad{suffix}"
    whole = saved.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"<html>", "empty": b""}.get(damage, b""))
    if damage == "no layers":
        with h5py.File(path, "w") as file:
            file["numbers"] = np.arange(3)
    with pytest.raises(WeightsError) as caught:
        build(SMALL, path, size_px=32)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def poison_external_link(file, other):
    file["extra"] = h5py.ExternalLink(str(other), "/secret")


def poison_soft_link(file, other):
    file["extra"] = h5py.SoftLink("/layers")


def poison_external_data(file, other):
    file.create_dataset("extra", (16,), "u1", external=[(str(other), 0, 16)])


def poison_virtual_data(file, other):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "secret", (4,))
    file.create_virtual_dataset("extra", layout)


def poison_deep(file, other):
    poison_external_link(file.create_group("a/b/c"), other)


@pytest.mark.parametrize(
    "poison",
    [poison_external_link, poison_soft_link, poison_external_data, poison_virtual_data, poison_deep],
)
def test_file_that_reaches_outside_is_refused(saved, tmp_path, poison):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.ones(4, "float32")
    build(SMALL, saved, size_px=32)  # sound before it is poisoned
    with h5py.File(saved, "a") as file:
        poison(file, tmp_path / "other.h5")
    with pytest.raises(WeightsError, match="must hold its data itself"):
        build(SMALL, saved, size_px=32)


def test_ring_of_hard_links_ends(saved):
    with h5py.File(saved, "a") as file:
        file["layers/ring"] = file["layers"]
    build(SMALL, saved, size_px=32)
