"""Augmentation: what it may change, what it must not, and that only seed and step decide."""

import numpy as np
import pytest
import tensorflow as tf

from tests.pictures import photo
from tlkeras.fine_tuning.augment import (
    PRESETS,
    Augmentation,
    Batches,
    augmented,
    cropped,
    kept_side_px,
    tinted,
)

SIDE = 24


@pytest.fixture(scope="module")
def pictures():
    return np.stack([np.asarray(photo(SIDE, SIDE, seed)) for seed in range(6)]).astype(np.float32)


def seed(number):
    return tf.constant([0, number], tf.int64)


def test_nothing_asked_for_changes_nothing(pictures):
    np.testing.assert_allclose(augmented(pictures, seed(1), SIDE, Augmentation()), pictures, atol=1e-3)


def test_mirrored_images_are_exact_and_about_half(pictures):
    mirrored = 0
    for number in range(20):
        changed = cropped(pictures, seed(number), SIDE, Augmentation(flip=True)).numpy()
        for before, after in zip(pictures, changed, strict=True):
            plain, turned = (np.abs(after - other).max() for other in (before, before[:, ::-1]))
            assert min(plain, turned) < 1e-2
            mirrored += turned < plain
    assert 40 <= mirrored <= 80  # of 120; either end is four standard deviations off


def test_crops_show_parts_of_the_picture():
    # Red tells the column, green the row: a crop shows a smaller range of both, and nothing from outside.
    row, column = np.mgrid[0:64, 0:64].astype(np.float32)
    ramp = np.stack([column, row, 0 * row], axis=-1)[None].repeat(50, axis=0) * 4
    crops = cropped(ramp, seed(3), 32, Augmentation(area=0.25, aspect=4 / 3)).numpy() / 4
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
    changed = tinted(grey, seed(5), 0.4).numpy()
    assert np.ptp(changed, axis=-1).max() < 1e-2
    colourful = tinted(pictures, seed(5), 0.4).numpy()
    assert colourful.min() >= 0
    assert colourful.max() <= 255
    assert np.abs(colourful - pictures).mean(axis=(1, 2, 3)).min() > 0.5


def batches(name="light", number=0):
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


def test_photos_are_kept_a_little_larger_than_the_crops_need():
    assert kept_side_px(128, PRESETS["off"]) == 128
    assert kept_side_px(112, PRESETS["light"]) == 128
