"""Arrays and Pillow images are taken as they are meant, or refused in words."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.pictures import encode, photo, with_orientation
from tlkeras.errors import ConfigError
from tlkeras.images.arrays import as_pixels
from tlkeras.images.decode import decode


@pytest.mark.parametrize(
    ("image", "shape", "dtype"),
    [
        (np.zeros((4, 5), np.uint8), (4, 5, 3), np.uint8),
        (np.zeros((4, 5, 1), np.uint8), (4, 5, 3), np.uint8),
        (np.full((4, 5, 3), 200), (4, 5, 3), np.float32),
        (np.full((4, 5, 3), 200.0), (4, 5, 3), np.float32),
        (np.zeros((4, 5, 3)), (4, 5, 3), np.float32),
    ],
)
def test_arrays_in_range(image, shape, dtype):
    pixels = as_pixels(image)
    assert pixels.shape == shape
    assert pixels.dtype == dtype


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.random.default_rng(0).random((8, 8, 3)), "unscaled"),
        (np.full((8, 8, 3), -1.0), r"-1\.\.-1"),
        (np.full((8, 8, 3), 256), "256"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (np.zeros((8, 8, 4), np.uint8), "shape"),
        (np.zeros((2, 8, 8, 3), np.uint8), "shape"),
        (np.zeros((0, 8, 3), np.uint8), "shape"),
        ("cat", "shape"),
    ],
)
def test_what_is_not_an_image_in_0_255_is_refused(image, words):
    with pytest.raises(ConfigError, match=words):
        as_pixels(image)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_pillow_image_gives_the_pixels_of_its_file(orientation):
    data = with_orientation(photo(30, 20), "JPEG", orientation)
    np.testing.assert_array_equal(as_pixels(Image.open(io.BytesIO(data))), decode(data).pixels)
    palette = encode(photo(30, 20).quantize(8), "PNG", transparency=2)
    np.testing.assert_array_equal(as_pixels(Image.open(io.BytesIO(palette))), decode(palette).pixels)
