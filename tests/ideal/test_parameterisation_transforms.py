"""Random changes of images: repeatable, each image on its own, and exact where the change is known."""

import numpy as np
import pytest
import tensorflow as tf

from tests.pictures import photo
from tlkeras.ideal.parameterisation import Transforms, _resample

PHOTO = np.asarray(photo(32, 32), np.float32)[None]
ONE = tf.ones([1])
ZERO = tf.zeros([1])


def changed(seed=3, count=1, **options):
    return Transforms(**options)(tf.constant(np.repeat(PHOTO, count, axis=0)), tf.constant([0, seed])).numpy()


def test_nothing_is_changed_by_default():
    np.testing.assert_array_equal(changed(), PHOTO)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((ONE, ZERO, ZERO, ZERO, ONE), PHOTO),
        ((ONE, ZERO, ZERO, ZERO, -ONE), PHOTO[:, :, ::-1]),
        ((ONE, ZERO, 4 * ONE, ZERO, ONE), np.concatenate([PHOTO[:, :, 4:], PHOTO[:, :, :-5:-1]], axis=2)),
        ((ONE, ZERO, ZERO, 4 * ONE, ONE), np.concatenate([PHOTO[:, 4:], PHOTO[:, :-5:-1]], axis=1)),
        ((ONE, np.pi / 2 * ONE, ZERO, ZERO, ONE), np.rot90(PHOTO, 1, axes=(1, 2))),
    ],
    ids=["as it is", "mirrored", "moved right", "moved down", "a quarter turn"],
)
def test_known_changes(arguments, expected):
    np.testing.assert_allclose(_resample(tf.constant(PHOTO), *arguments, 32), expected, atol=0.1)


def test_zoom_shows_the_middle_larger():
    half = _resample(tf.constant(PHOTO), 2 * ONE, ZERO, ZERO, ZERO, ONE, 32).numpy()
    middle = tf.image.resize(PHOTO[:, 8:24, 8:24], (32, 32), method="bilinear").numpy()
    np.testing.assert_allclose(half[:, 4:-4, 4:-4], middle[:, 4:-4, 4:-4], atol=0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"jitter": 0.1},
        {"turn_degrees": 15.0},
        {"scale": (0.8, 1.2)},
        {"contrast": 0.4},
        {"noise_255": 10.0},
        {"jitter": 0.1, "turn_degrees": 15.0, "scale": (0.8, 1.2), "contrast": 0.2, "noise_255": 5.0, "mirror": True},
    ],
    ids=lambda options: " ".join(options),
)
def test_changes_are_repeatable_and_differ_between_seeds_and_images(options):
    first = changed(count=2, **options)
    np.testing.assert_array_equal(first, changed(count=2, **options))
    assert np.abs(first - changed(seed=4, count=2, **options)).max() > 1
    assert np.abs(first[0] - first[1]).max() > 1
    assert np.abs(first - PHOTO).mean() < 80


def test_half_of_the_images_are_mirrored():
    images = changed(count=64, mirror=True)
    mirrored = np.abs(images - PHOTO[:, :, ::-1]).max(axis=(1, 2, 3)) < 1
    plain = np.abs(images - PHOTO).max(axis=(1, 2, 3)) < 1
    assert (mirrored | plain).all()
    assert 16 < mirrored.sum() < 48


def test_the_gradient_passes_through():
    image = tf.constant(PHOTO)
    with tf.GradientTape() as tape:
        tape.watch(image)
        moved = _resample(image, ONE, ZERO, 4 * ONE, ZERO, ONE, 32)
        value = tf.reduce_sum(moved[:, :, :20] ** 2) / 2
    gradient = tape.gradient(value, image).numpy()
    np.testing.assert_allclose(gradient[:, :, 4:24], PHOTO[:, :, 4:24], atol=0.5)
    np.testing.assert_allclose(gradient[:, :, 26:], 0, atol=0.5)


@pytest.mark.parametrize(
    ("window", "size_px", "expected"),
    [
        (1.0, 50, 50),
        (0.857, 224, 192),
        (0.857, 128, 96),
        (0.857, 64, 64),
        (0.857, 299, 256),
        (0.1, 224, 32),
        (0.5, 20, 20),
    ],
)
def test_windows_are_multiples_of_what_networks_halve(window, size_px, expected):
    assert Transforms(window=window).window_px(size_px) == expected


def test_a_window_shows_the_middle():
    wide = np.asarray(photo(96, 96), np.float32)[None]
    shown = Transforms(window=0.67)(tf.constant(wide), tf.constant([0, 1])).numpy()
    np.testing.assert_allclose(shown, wide[:, 16:80, 16:80], atol=0.1)


def test_the_gradient_is_exact_where_the_window_reaches_and_nothing_elsewhere():
    size, smooth = 48, np.asarray(photo(48, 48), np.float32)[None]
    smooth = tf.image.resize(tf.image.resize(smooth, (8, 8)), (size, size), method="bicubic")
    arguments = (1.1 * ONE, 0.2 * ONE, 3 * ONE, -2 * ONE, -ONE, 32)

    def energy(image):
        return tf.reduce_sum(_resample(image, *arguments) ** 2) / 2

    with tf.GradientTape() as tape:
        tape.watch(smooth)
        value = energy(smooth)
    gradient = tape.gradient(value, smooth).numpy()
    rows, columns = np.mgrid[:size, :size]
    bump = np.exp(-((rows - 24) ** 2 + (columns - 22) ** 2) / 40)[None, ..., None].astype(np.float32)
    slope = (energy(smooth + 0.05 * bump) - energy(smooth - 0.05 * bump)) / 0.1
    np.testing.assert_allclose((gradient * bump).sum(), slope, rtol=0.01)
    assert (gradient[:, :4, :4] == 0).all()
    assert (gradient[:, -4:, -4:] == 0).all()
