"""Ideal images of a small trained classifier: they are what they are to be, and the same for a seed."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tlkeras.backbones.layers import with_layers
from tlkeras.errors import ConfigError
from tlkeras.ideal import IdealConfig
from tlkeras.ideal.images import curves, film, film_strip, ideal_images, ideal_layer_images, sheet
from tlkeras.images.arrays import figure_bytes, png_bytes
from tlkeras.images.decode import decode
from tlkeras.target import load_target

PLAIN = {"mode": "pixels", "steps": 40, "tv": 0.0, "count": 2, "seed": 1, "batch_size": 3}


@pytest.fixture(scope="module")
def target(run_folder):
    return load_target(run_folder)


@pytest.fixture(scope="module")
def made(target):
    return ideal_images(target, ["blue", "orange"], IdealConfig(frames=6, **PLAIN))


# A random network has no idea of a class that many noises climb to; these two do, from about one half or less.
@pytest.mark.parametrize(("mode", "label", "seed"), [("fourier", "blue", 6), ("pixels", "orange", 3)])
def test_noise_becomes_the_class(target, mode, label, seed):
    made = ideal_images(target, [label], IdealConfig(mode=mode, steps=40, tv=0.0, seed=seed, frames=5))
    both = np.stack([made.film[0, 0], made.images[0]])
    start, end = target.batched_logits(both)[:, made.classes[0]]
    assert end > start + 2
    probability = target.probabilities(both)[1, made.classes[0]]
    assert probability > 0.95
    assert probability == pytest.approx(made.probabilities[0, made.classes[0]], abs=1e-4)
    assert made.values.shape == (1, 40)
    assert np.isfinite(made.values).all()


@pytest.mark.parametrize("mode", ["fourier", "pixels"])
def test_a_real_network_sees_what_it_is_to_see(assets, monkeypatch, mode):
    monkeypatch.setenv("KERAS_HOME", str(assets / "keras"))
    made = ideal_images(load_target("mobilenet_0.25", size_px=96), ["zebra", "goldfish"], IdealConfig(mode, steps=60))
    assert (made.probabilities[[0, 1], made.classes] > 0.9).all()
    assert made.clipped_share < 0.2


def test_what_is_kept_of_a_run(made, target):
    assert made.labels == ("blue", "blue", "orange", "orange")
    assert made.images.dtype == np.uint8
    assert made.images.shape == (4, 32, 32, 3)
    assert made.film.shape == (4, 6, 32, 32, 3)
    assert made.film_steps.tolist()[::5] == [0, 40]
    np.testing.assert_array_equal(made.film[:, -1], made.images)
    # Two images of a class come from different noise.
    assert np.abs(made.images[0].astype(int) - made.images[1]).max() > 5
    # The figures are those of the files.
    files = np.stack([decode(png_bytes(image)).pixels for image in made.images])
    np.testing.assert_array_equal(made.probabilities, target.probabilities(files))
    assert np.abs(made.probabilities - made.unrounded).max() < 0.2
    rows = made.to_json()["images"]
    assert [row["class"] for row in rows] == [0, 0, 1, 1]
    assert rows[3]["probability"] == pytest.approx(float(made.probabilities[3, 1]), abs=1e-6)
    assert made.rank(made.probabilities).tolist() == [0, 0, 0, 0]


def test_the_same_seed_gives_the_same_images(target, made):
    again = ideal_images(target, ["blue", "orange"], IdealConfig(frames=3, **PLAIN))
    np.testing.assert_array_equal(again.images, made.images)
    other = ideal_images(target, ["blue"], IdealConfig(mode="pixels", steps=40, seed=2, tv=0.0))
    assert np.abs(other.images[0].astype(int) - made.images[0]).max() > 5


def test_total_variation_makes_images_smooth(target):
    def roughness(tv):
        image = ideal_images(target, ["blue"], IdealConfig(mode="pixels", steps=30, tv=tv)).images[0].astype(float)
        return np.abs(np.diff(image, axis=0)).mean()

    assert roughness(1e4) < 0.7 * roughness(0.0)


def test_a_channel_is_excited_more_than_noise_excites_it(target):
    config = IdealConfig(steps=25, seed=1)
    made = ideal_layer_images(target, "conv_pw_6_relu", 5, config)
    maps = with_layers(target.network, ["conv_pw_6_relu"])
    start, end = (
        maps(frames.astype(np.float32))["conv_pw_6_relu"].numpy() for frames in (made.film[:, 0], made.images)
    )
    assert end[..., 5].mean() > 2 * start[..., 5].mean()
    assert made.labels == ("conv_pw_6_relu 5",)
    row = made.to_json()["images"][0]
    assert "class" not in row
    whole = ideal_layer_images(target, "conv_pw_6_relu", None, config)
    assert whole.values[0, -1] > whole.values[0, 0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda target: ideal_images(target, ["green"]), "unknown class 'green'"),
        (lambda target: ideal_images(target, []), "at least one class"),
        (lambda target: ideal_images(target, ["blue"], IdealConfig(mode="fourrier")), "did you mean 'fourier'"),
        (lambda target: IdealConfig(steps=0), "steps must lie in 1..100000; received 0"),
        (lambda target: IdealConfig(count=0), "count must lie"),
        (lambda target: IdealConfig(tv=-1), "0 or more; received -1"),
        (lambda target: IdealConfig(seed=-1), "seed must lie"),
        (lambda target: ideal_layer_images(target, "conv_pw_6_rel"), "did you mean 'conv_pw_6_relu'"),
        (lambda target: ideal_layer_images(target, "conv_pw_6_relu", 128), "numbered 0..127; received 128"),
    ],
)
def test_what_cannot_be_is_refused(target, call, words):
    with pytest.raises(ConfigError) as raised:
        call(target)
    assert words in str(raised.value)


def test_pictures_show_every_image(made):
    for figure in (sheet(made), film_strip(made), curves(made)):
        pixels = np.asarray(Image.open(io.BytesIO(figure_bytes(figure))).convert("RGB"))
        assert pixels.std() > 10
    titles = [axis.get_title() for axis in sheet(made).axes]
    assert titles[0] == f"blue  {made.probabilities[0, 0]:.3f}"
    assert len(film_strip(made).axes) == 4 * 6
    with Image.open(io.BytesIO(film(made))) as moving:
        assert moving.n_frames == 6
        assert moving.size == (4 * 32, 32)
        moving.seek(5)
        shown = np.asarray(moving.convert("RGB"), int)
    # A GIF has 256 colours; the picture is recognised all the same.
    assert np.abs(shown - np.concatenate(list(made.images), axis=1)).mean() < 12


def test_the_maker_judges_its_own_images_as_it_did(made, target):
    answer = made.seen_by(target)
    assert (answer["first"], answer["top_5"]) == (1.0, 1.0)
    assert [row["rank"] for row in answer["images"]] == [1, 1, 1, 1]
    assert answer["images"][2]["probability"] == pytest.approx(float(made.probabilities[2, 1]), abs=1e-6)


def test_a_judge_with_other_classes_only_says_what_it_sees(made):
    judge = load_target("mobilenet_0.25", weights="none", size_px=40)
    answer = made.seen_by(judge)
    # ImageNet knows the fruit and has no blue.
    assert ["rank" in row for row in answer["images"]] == [False, False, True, True]
    assert all(len(row["top"]) == 3 for row in answer["images"])
    renamed = replace(made, target=replace(made.target, class_names=("sky", "no fruit")))
    assert renamed.seen_by(judge)["first"] is None


def test_stopping_between_steps_leaves_the_exception_to_the_caller(target):
    class Stop:
        def say(self, text):
            raise AssertionError(text)

        def step(self, name, unit="images"):
            @contextlib.contextmanager
            def bar():
                def advance(done, total):
                    assert 0 < done <= total == 30
                    raise KeyboardInterrupt

                yield advance

            return bar()

    with pytest.raises(KeyboardInterrupt):
        ideal_images(target, ["blue"], IdealConfig(steps=30), reporter=Stop())
