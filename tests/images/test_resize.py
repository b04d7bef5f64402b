"""The resize rule: Pillow, TensorFlow's own operation and the matrix form against the rule as it is written."""

import numpy as np
import pytest
from PIL import Image

from tests.pictures import photo
from tlkeras.errors import ConfigError
from tlkeras.images import resize
from tlkeras.images.resize import FITS, PAD_VALUE_255, axis, check_fit, fit_to_square

SIZES = [(375, 500), (500, 375), (96, 96), (40, 31), (1, 200), (200, 1), (333, 1), (224, 224), (1200, 901)]


def by_matrix(pixels, size_px, fit):
    """The rule as it is written: one matrix for each axis, in double precision."""

    def weights(n, other):
        lo, hi, first, count = axis(n, min(n, other), max(n, other), size_px, fit)
        scale = (hi - lo) / count
        out = np.arange(size_px)
        centre = lo + (out - first + 0.5) * scale
        weights = np.maximum(0.0, 1.0 - np.abs(np.arange(n)[None, :] + 0.5 - centre[:, None]) / max(scale, 1.0))
        inside = (out >= first) & (out < first + count)
        return np.where(inside[:, None], weights / weights.sum(axis=1, keepdims=True).clip(1e-9), 0.0), inside

    (rows, inside_rows), (columns, inside_columns) = weights(*pixels.shape[:2]), weights(*pixels.shape[1::-1])
    square = np.einsum("yh,hwc,xw->yxc", rows, pixels.astype(np.float64), columns, optimize=True)
    return np.where(inside_rows[:, None, None] & inside_columns[None, :, None], square, PAD_VALUE_255)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pillow_native_and_matrix_are_the_rule(height, width, fit, monkeypatch):
    from tlkeras.images import graph

    pixels = np.asarray(photo(width, height))
    expected = by_matrix(pixels, 64, fit)
    ours = fit_to_square(pixels, 64, fit)
    assert ours.dtype == np.float32
    assert np.abs(ours - expected).max() < 1e-3
    np.testing.assert_array_equal(fit_to_square(pixels.astype(np.float32), 64, fit), ours)
    monkeypatch.setattr(resize, "_BLOCK_PIXELS", 5 * width)  # as a photo that is too large to be widened at once
    np.testing.assert_allclose(fit_to_square(pixels, 64, fit), ours, atol=1e-4)
    native = graph.fit_to_square(pixels, 64, fit).numpy()
    matrix = graph.fit_by_matrix(pixels[None].astype(np.float32), 64, fit).numpy()[0]
    assert np.abs(native - ours).max() < 0.01
    assert np.abs(matrix - ours).max() < 0.01


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (96, 96), (40, 31), (1200, 901)])
def test_pillow_agrees_up_to_its_rounding(height, width):
    picture = photo(width, height)
    pixels = np.asarray(picture)

    stretched = picture.resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(fit_to_square(pixels, 64, "stretch") - np.asarray(stretched)).max() < 1.0

    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    # Pillow does not look beyond the box, our kernel does; away from the border they must agree.
    cropped = picture.resize((64, 64), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    difference = np.abs(fit_to_square(pixels, 64, "crop") - np.asarray(cropped))
    assert difference[1:-1, 1:-1].max() < 1.0

    scale = 64 / max(height, width)
    small = picture.resize((int(width * scale + 0.5), int(height * scale + 0.5)), Image.Resampling.BILINEAR)
    padded = fit_to_square(pixels, 64, "pad")
    top, left = (64 - small.height) // 2, (64 - small.width) // 2
    inside = padded[top : top + small.height, left : left + small.width]
    assert np.abs(inside - np.asarray(small)).max() < 1.0
    padded[top : top + small.height, left : left + small.width] = PAD_VALUE_255
    assert (padded == PAD_VALUE_255).all()


def test_tensorflow_antialiased_resize_is_the_same_rule():
    import tensorflow as tf

    pixels = np.asarray(photo(500, 375))
    expected = tf.image.resize(pixels, [224, 224], antialias=True).numpy()
    assert np.abs(fit_to_square(pixels, 224, "stretch") - expected).max() < 0.01


def test_a_batch_is_fitted_as_its_images():
    from tlkeras.images import graph

    batch = np.stack([np.asarray(photo(50, 80, seed)) for seed in range(3)])
    for fit in FITS:
        together = graph.fit_to_square(batch, 32, fit).numpy()
        alone = np.stack([graph.fit_to_square(pixels, 32, fit).numpy() for pixels in batch])
        np.testing.assert_allclose(together, alone, atol=1e-3)


@pytest.mark.parametrize(("fit", "size_px", "words"), [("croop", 224, "did you mean 'crop'"), ("crop", 2, "8..4096")])
def test_wrong_options_are_named(fit, size_px, words):
    with pytest.raises(ConfigError, match=words):
        check_fit(fit, size_px)
