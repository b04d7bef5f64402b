import numpy as np
import pytest

from tests.pictures import photo
from tlkeras.attacks.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tlkeras.errors import ConfigError


@pytest.fixture(scope="module")
def pixels():
    return np.stack([np.asarray(photo(64, 64, seed=seed)) for seed in range(3)])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_with_severity_and_repeat(pixels, name):
    distances = []
    for severity in SEVERITIES:
        corrupted = corrupt(pixels, name, severity)
        assert corrupted.dtype == np.uint8
        assert corrupted.shape == pixels.shape
        np.testing.assert_array_equal(corrupted, corrupt(pixels, name, severity))
        distances.append(np.abs(corrupted.astype(float) - pixels).mean(axis=(1, 2, 3)))
    assert (np.diff(distances, axis=0) > 0).all()
    assert (distances[0] > 0.05).all()


def test_each_image_has_its_own_noise_and_the_seed_changes_it(pixels):
    same = np.stack([pixels[0]] * 2)
    first, second = corrupt(same, "noise", 2)
    assert (first != second).any()
    assert (corrupt(same, "noise", 2, seed=1) != corrupt(same, "noise", 2)).any()


def test_rotation_leaves_no_empty_corner(pixels):
    grey = np.full((1, 40, 40, 3), 200, np.uint8)
    np.testing.assert_array_equal(corrupt(grey, "rotation", 5), grey)


@pytest.mark.parametrize(("name", "severity", "words"), [("blurr", 1, "did you mean 'blur'"), ("blur", 6, "1..5")])
def test_bad_names_and_severities(pixels, name, severity, words):
    with pytest.raises(ConfigError, match=words):
        corrupt(pixels, name, severity)
