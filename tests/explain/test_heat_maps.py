"""Heat maps against the papers' formulas, laid back over the photo, and on real photos of two animals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.networks import small_network
from tests.pictures import encode, photo
from tlkeras import backbones
from tlkeras.errors import ConfigError, ImageError
from tlkeras.explain import methods
from tlkeras.explain.heat_maps import Explainer, blended, comparison, heat_maps, laid_over
from tlkeras.explain.methods import METHODS
from tlkeras.heads.config import HeadConfig
from tlkeras.images.arrays import figure_bytes
from tlkeras.target import load_target
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network


@pytest.fixture(scope="module")
def target(run_folder):
    return load_target(run_folder)


def test_behind_an_average_and_a_linear_head_grad_cam_is_the_head_applied_to_each_place():
    """There each gradient is the head's weight over the number of places: class activation maps (Zhou et al. 2016)."""
    config = ClassifierConfig("mobilenet_0.25", 96, "crop", False, HeadConfig(), ("a", "b"), 0.5, "")
    target = load_target(TrainedClassifier.of_network(config, build_network(config, small_network(96))))
    image = photo(150, 140)
    found = Explainer(target, method="grad-cam", photos=1).explain(image, 1)
    assert found.coarse.shape == (3, 3)
    pixels = tf.constant(target.load(image)[None])
    inner = backbones.application(target.network)
    maps_of = keras.Model(inner.inputs, inner.get_layer(found.layers[0]).output)
    maps = maps_of(pixels / 127.5 - 1.0, training=False).numpy()[0]
    head = target.network.get_layer("head")
    features = tf.constant(maps.mean(axis=(0, 1))[None])
    with tf.GradientTape() as tape:
        tape.watch(features)
        logit = head(features, training=False)[0, 1]
    weights = tape.gradient(logit, features).numpy()[0]
    expected = np.maximum(maps @ weights, 0) / (maps.shape[0] * maps.shape[1])
    np.testing.assert_allclose(found.coarse, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert found.label == "b"
    assert found.probability == pytest.approx(float(target.probabilities(pixels.numpy())[0, 1]), abs=1e-5)


def test_the_formulas_written_as_loops():
    random = np.random.default_rng(0)
    maps, gradients = np.maximum(random.normal(size=(3, 4, 5)), 0), random.normal(size=(3, 4, 5))
    by_channel, by_place = np.zeros((3, 4)), np.zeros((3, 4))
    for k in range(5):
        by_channel += gradients[..., k].mean() * maps[..., k]
        for y, x in np.ndindex(3, 4):
            by_place[y, x] += max(gradients[y, x, k], 0) * maps[y, x, k]
    np.testing.assert_allclose(methods.weighted(maps, gradients), np.maximum(by_channel, 0), atol=1e-6)
    np.testing.assert_allclose(methods.weighted_by_place(maps, gradients), by_place, rtol=1e-5)


def test_occlusion_finds_the_only_pixels_that_count(target):
    """Whatever the network: an answer that looks at one corner is lost by hiding that corner."""

    def answer(pixels):
        seen = pixels[:, :12, -12:, 0].std(axis=(1, 2)) / 100
        return np.stack([seen, 1 - seen], axis=1)

    pixels = np.random.default_rng(0).uniform(0, 255, (56, 56, 3)).astype(np.float32)
    heat = METHODS["occlusion"].make(target, ())(pixels, 0, answer)
    assert heat.shape == (14, 14)
    assert heat[:3, -3:].min() > 0.5
    assert heat[6:].max() == heat[:, :8].max() == 0


@pytest.mark.parametrize(
    ("layer", "method"), [(None, "occlusion"), ("conv_pw_11_relu", "grad-cam"), ("conv_pw_5_relu", "grad-cam")]
)
def test_coarse_maps_are_left_to_occlusion_unless_a_layer_is_named(target, layer, method):
    assert Explainer(target, layer=layer, photos=1).method == method


@pytest.mark.parametrize(
    ("fit", "size", "hottest", "cold"),
    [
        # The lower right cell of 4 × 4, at 7/8 of the square.
        ("stretch", (80, 160), (70, 140), []),
        ("crop", (80, 160), (70, 110), [(40, 10), (40, 150)]),
        ("crop", (160, 80), (110, 70), [(10, 40), (150, 40)]),
        ("pad", (80, 160), (79, 140), []),
    ],
)
def test_the_fit_is_undone(fit, size, hottest, cold):
    coarse = np.full((4, 4), 0.1, np.float32)
    coarse[3, 3] = 1.0
    heat = laid_over(coarse, size, 64, fit)
    assert heat.shape == size
    assert heat.max() == 1
    assert heat[hottest] > 0.7
    assert all(heat[place] == 0 for place in cold)
    assert 0 < heat[size[0] // 2, size[1] // 2] < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_pictures_have_the_size_of_the_photo(target, method):
    found = Explainer(target, method=method, photos=1).explain(encode(photo(90, 40), "PNG"))
    assert found.photo.shape == (40, 90, 3)
    assert found.heat.shape == (40, 90)
    assert (found.heat.min(), found.heat.max()) == (pytest.approx(0, abs=1), 1)
    shown = blended(found)
    assert shown.shape == (40, 90, 3)
    cold = found.heat < 1e-3
    np.testing.assert_allclose(shown[cold], found.photo[cold], atol=2)
    assert len(figure_bytes(comparison(found))) > 5000
    assert found.faithfulness.to_json().keys() >= {"deletion", "insertion", "better_than_chance"}


def test_a_photo_that_cannot_be_read_is_named_and_the_rest_is_explained(target, tmp_path):
    photo(50, 40).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [tmp_path / "bad.png", tmp_path / "good.png"]
    problems = []
    found = heat_maps(target, paths, failed=lambda index, error: problems.append((index, error.reason)))
    assert problems == [(0, "not_an_image")]
    assert [heat_map.name for heat_map in found] == [str(paths[1])]
    with pytest.raises(ImageError):
        heat_maps(target, paths)


def test_what_is_not_there_is_refused(target):
    with pytest.raises(ConfigError, match="did you mean 'grad-cam'"):
        Explainer(target, method="gradcam")
    with pytest.raises(ConfigError, match="unknown layer 'nowhere'"):
        Explainer(target, layer="nowhere")
    with pytest.raises(ConfigError, match="occlusion looks at no layer"):
        Explainer(target, method="occlusion", layer="conv_pw_5_relu")


@pytest.mark.parametrize("method", METHODS)
def test_each_animal_is_found_where_it_is(assets, monkeypatch, method):
    """A zebra on the left and a Siamese cat on the right: the heat of each class lies on its own half."""
    monkeypatch.setenv("KERAS_HOME", str(assets / "keras"))
    folder = assets / "photos/imagenet/by_class"
    halves = [sorted((folder / name).glob("*.jpg")) for name in ("zebra", "Siamese_cat")]
    if not all(halves):
        pytest.skip("needs photos of a zebra and a Siamese cat in TLKERAS_ASSETS")
    explainer = Explainer(load_target("mobilenet_0.75"), method=method)
    right = 0
    pairs = list(zip(*halves, strict=False))[:5]
    for pair in pairs:
        both = np.concatenate([np.asarray(Image.open(path).convert("RGB").resize((112, 224))) for path in pair], axis=1)
        for name, half in (("zebra", slice(0, 112)), ("Siamese cat", slice(112, 224))):
            heat = explainer.explain(both, explainer.target.class_index(name)).heat
            right += heat[:, half].sum() > heat.sum() / 2
    assert right >= 0.8 * 2 * len(pairs)
