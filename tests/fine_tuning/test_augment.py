"""Augmentation: what it may change, what it must not, and that only seed and step decide."""

import numpy as np
import pytest
import tensorflow as tf

from tests.pictures import photo
from tlkeras.fine_tuning.augment import PRESETS, Augment, Augmentation, ColourJitter, Mix, RandomResizedCrop, preset
from tlkeras.fine_tuning.batches import Batches, kept_side_px
from tlkeras.fine_tuning.rand_augment import RandAugment, _operations, warp

SIDE = 24


@pytest.fixture(scope="module")
def pictures():
    return np.stack([np.asarray(photo(SIDE, SIDE, seed)) for seed in range(6)]).astype(np.float32)


def seed(number):
    return tf.constant([0, number], tf.int64)


def test_nothing_asked_for_changes_nothing(pictures):
    pixels, targets = Augment(SIDE, Augmentation())(pictures, np.eye(6, dtype=np.float32), seed(1))
    np.testing.assert_allclose(pixels, pictures, atol=1e-3)
    np.testing.assert_array_equal(targets, np.eye(6))


def test_mirrored_images_are_exact_and_about_half(pictures):
    layer = RandomResizedCrop(SIDE, Augmentation(flip=True))
    mirrored = 0
    for number in range(20):
        for before, after in zip(pictures, layer(pictures, seed(number)).numpy(), strict=True):
            plain, turned = (np.abs(after - other).max() for other in (before, before[:, ::-1]))
            assert min(plain, turned) < 1e-2
            mirrored += turned < plain
    assert 40 <= mirrored <= 80  # of 120; either end is four standard deviations off


def test_crops_show_parts_of_the_picture():
    # Red tells the column, green the row: a crop shows a smaller range of both, and nothing from outside.
    row, column = np.mgrid[0:64, 0:64].astype(np.float32)
    ramp = np.stack([column, row, 0 * row], axis=-1)[None].repeat(50, axis=0) * 4
    crops = RandomResizedCrop(32, Augmentation(area=0.25, aspect=4 / 3))(ramp, seed(3)).numpy() / 4
    widths = np.ptp(crops[..., 0], axis=(1, 2)) + 64 / 32
    heights = np.ptp(crops[..., 1], axis=(1, 2)) + 64 / 32
    areas = widths * heights / 64**2
    assert 0.2 < areas.min() < 0.4
    assert 0.75 < areas.max() <= 1.05
    assert 0.7 < (widths / heights).min() < 0.9
    assert 1.1 < (widths / heights).max() < 1.45
    assert crops.min() >= 0
    assert crops.max() <= 63


def test_colour_keeps_grey_grey_and_the_range(pictures):
    grey = np.repeat(pictures.mean(axis=-1, keepdims=True), 3, axis=-1)
    changed = ColourJitter(0.4)(grey, seed(5)).numpy()
    assert np.ptp(changed, axis=-1).max() < 1e-2
    colourful = ColourJitter(0.4)(pictures, seed(5)).numpy()
    assert colourful.min() >= 0
    assert colourful.max() <= 255
    assert np.abs(colourful - pictures).mean(axis=(1, 2, 3)).min() > 0.5


def test_targets_are_mixed_as_the_pixels_are():
    # White for the even, black for the odd class: mean brightness tells what the target must say.
    white = np.arange(8) % 2 == 0
    pixels = np.where(white[:, None, None, None], 255.0, 0.0) * np.ones((8, 32, 32, 3))
    targets = np.stack([white, ~white], axis=1).astype(np.float32)
    kinds = set()
    for number in range(12):
        mixed, told = (x.numpy() for x in Mix(1.0)(pixels.astype(np.float32), targets, seed(number)))
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)) / 255, told[:, 0], atol=1e-5)
        np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-6)
        kinds.add("cutmix" if set(np.unique(mixed)) <= {0.0, 255.0} else "mixup")
    assert kinds == {"cutmix", "mixup"}
    untouched, told = Mix(0.0)(pixels.astype(np.float32), targets, seed(0))
    np.testing.assert_array_equal(untouched, pixels)
    np.testing.assert_array_equal(told, targets)


def test_each_operation_of_rand_augment_changes_the_picture_within_its_range(pictures):
    operations = _operations(0.7)
    assert len(operations) == 14
    for index, operation in enumerate(operations):
        for sign in (-1.0, 1.0):
            changed = tf.clip_by_value(operation(tf.constant(pictures[0]), sign), 0.0, 255.0).numpy()
            assert changed.shape == pictures[0].shape
            difference = np.abs(changed - pictures[0]).mean()
            assert (difference == 0) == (index == 0), index  # only the first one is the identity
    layer = RandAugment(2, 7)
    changed = layer(pictures, seed(2)).numpy()
    assert np.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_equalising_spreads_the_values():
    dark = np.tile(np.arange(64, dtype=np.float32).reshape(8, 8, 1), (1, 1, 3))
    equalised = _operations(0.5)[-1](tf.constant(dark), 1.0).numpy()
    np.testing.assert_allclose(np.sort(equalised[..., 0].ravel()), (np.arange(64) + 1) * 255 / 64, rtol=1e-5)


def test_a_warp_turns_by_the_angle_that_it_is_given(pictures):
    quarter = tf.constant([[0.0, 1.0, 0.0, -1.0, 0.0, 0.0]] * len(pictures))
    turned = warp(tf.constant(pictures), quarter, SIDE).numpy()
    np.testing.assert_allclose(turned, np.rot90(pictures, k=-1, axes=(1, 2)), atol=1e-2)


def batches(name="strong", number=0):
    squares = np.stack([np.asarray(photo(36, 36, n)) for n in range(10)])
    augmentation = PRESETS[name]
    return Batches(squares, np.arange(10) % 3, 3, 32, 4, augmentation, number)


def test_a_batch_depends_on_seed_and_step_alone():
    whole = [[x.numpy() for x in batch] for batch in batches().from_step(0, 6)]
    assert len(whole) == 6
    for start in (1, 3, 5):  # in the middle of an epoch of three steps, at its start, near the end
        for late, early in zip(batches().from_step(start, 6), whole[start:], strict=True):
            for one, other in zip(late, early, strict=True):
                np.testing.assert_array_equal(one.numpy(), other)
    other_seed = next(batches(number=1).from_step(0, 1))[0].numpy()
    assert np.abs(other_seed - whole[0][0]).mean() > 1
    assert np.abs(whole[3][0] - whole[0][0]).mean() > 1


def test_every_photo_is_seen_in_every_epoch():
    made = batches()
    for epoch in range(3):
        order = made.order(epoch)
        assert order.shape == (3, 4)
        assert set(order.ravel()) == set(range(10))
    assert (made.order(0) != made.order(1)).any()


def test_presets_by_the_number_of_photos():
    assert preset("auto", 100) == "light"
    assert preset("auto", 100_000) == "strong"
    assert preset("off", 100_000) == "off"
    assert kept_side_px(128, PRESETS["off"]) == 128
    assert kept_side_px(112, PRESETS["light"]) == 128
