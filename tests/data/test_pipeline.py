"""Files to batches of pixels."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlkeras.data.pipeline import fitted_pixels, pixel_batches
from tlkeras.errors import ImageError


@pytest.fixture
def files(tmp_path):
    made = []
    for index in range(7):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (20 + index, 30), (30 * index, 10, 200)).save(path)
        made.append(str(path))
    return made


def test_every_file_comes_once_with_its_own_pixels(files):
    batches = list(pixel_batches(files, 16, "stretch", batch_size=2))
    assert [len(indices) for indices, _ in batches] == [2, 2, 2, 1]
    assert np.concatenate([indices for indices, _ in batches]).tolist() == list(range(7))
    for indices, pixels in batches:
        assert pixels.dtype == np.float32
        for index, square in zip(indices, pixels, strict=True):
            assert np.allclose(square, (30 * index, 10, 200), atol=1e-3)


def test_a_broken_file_is_handed_over_with_its_index_or_named(files, tmp_path):
    (tmp_path / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    failed = []
    batches = list(pixel_batches(files, 16, "crop", failed=lambda index, error: failed.append((index, error))))
    assert sorted(np.concatenate([indices for indices, _ in batches]).tolist()) == [0, 1, 2, 4, 5, 6]
    assert [index for index, _ in failed] == [3]
    with pytest.raises(ImageError, match=r"3\.png"):
        list(pixel_batches(files, 16, "crop"))


def test_the_caller_may_be_any_thread(files):
    results = []
    worker = threading.Thread(target=lambda: results.extend(pixel_batches(files, 16, "pad")))
    worker.start()
    worker.join()
    assert sum(len(indices) for indices, _ in results) == 7
    whole = fitted_pixels(Path(files[0]).read_bytes(), 16, "pad")
    assert np.abs(results[0][1][0] - whole).max() < 1e-3
