"""Decoded photos on disk: their space is taken before the first one is decoded."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import encode, photo
from tlkeras.data import squares as module
from tlkeras.data.audit import audit
from tlkeras.data.open import open_dataset
from tlkeras.data.squares import squares
from tlkeras.errors import StorageError
from tlkeras.storage import cache_root

SIDE = 32


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(14):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(photo(SIDE, SIDE, number), "PNG"))
    return audit(open_dataset(folder)).kept_verdicts


@pytest.mark.parametrize("system", ["Linux", "macOS"])
def test_pixels_are_those_of_the_files_and_the_file_has_no_name(system, verdicts, monkeypatch):
    if system == "macOS":
        monkeypatch.delattr(os, "posix_fallocate")
    found = squares(verdicts, SIDE, "stretch")
    for verdict, pixels in zip(verdicts, found, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(photo(SIDE, SIDE, int(Path(verdict.path).stem))))
    assert not list(cache_root().iterdir())


@pytest.mark.parametrize("system", ["Linux", "macOS"])
def test_two_runs_on_a_disk_for_one_end_one_with_a_line(system, verdicts, small_disk, monkeypatch):
    """It was a bus error: each saw enough free space, since neither had decoded anything yet."""
    if system == "macOS":
        monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setenv("TLKERAS_CACHE", str(small_disk))
    begin = module.pixel_batches

    def second_begins(*arguments):
        monkeypatch.setattr(module, "pixel_batches", begin)
        with pytest.raises(StorageError, match=r"cannot write .*No space left.*Free some space"):
            squares(verdicts, SIDE, "stretch")
        yield from begin(*arguments)

    monkeypatch.setattr(module, "pixel_batches", second_begins)
    assert squares(verdicts, SIDE, "stretch").any(axis=(1, 2, 3)).all()
    assert squares(verdicts, SIDE, "stretch").shape == (14, SIDE, SIDE, 3)  # the first one's space is free again
