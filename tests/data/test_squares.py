"""Decoded photos on disk: their space is taken before the first one is decoded."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import encode, photo
from tlkeras.data import squares as module
from tlkeras.data.audit import audit
from tlkeras.data.open import open_dataset
from tlkeras.data.squares import SquareQueue, squares
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
    assert not [path for path in cache_root().iterdir() if path.is_file()]


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


def test_squares_wait_in_a_queue_of_a_given_size_and_memory_holds_none_of_them():
    squares_of = [np.full((SIDE, SIDE, 3), number + 0.25, np.float32) for number in range(7)]
    queue = SquareQueue(SIDE, most_bytes=3 * squares_of[0].nbytes)
    threads = [threading.Thread(target=queue.put, args=(str(n), square)) for n, square in enumerate(squares_of)]
    for thread in threads:
        thread.start()
    threads[-1].join(0.1)
    while sum(thread.is_alive() for thread in threads) > 4:  # three wait in the file
        time.sleep(0.01)
    threads[-1].join(0.1)
    assert sum(thread.is_alive() for thread in threads) == 4
    found = {}
    batches = queue.batches(2)
    for _ in range(3):
        keys, pixels = next(batches)
        found |= dict(zip(keys, pixels, strict=True))
    for thread in threads:
        thread.join()
    queue.close()
    (keys, pixels) = next(batches)
    assert next(batches, None) is None
    found |= dict(zip(keys, pixels, strict=True))
    assert all((found[str(number)] == square).all() for number, square in enumerate(squares_of))
    # Where nobody takes any more, nobody waits either.
    queue.stop()
    for _ in range(5):
        queue.put("late", squares_of[0])


def test_a_full_disk_drops_squares_and_stops_nobody(small_disk, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(small_disk))
    queue = SquareQueue(SIDE)
    for number in range(20):  # 12 KB each, on a disk of 64
        queue.put(str(number), np.full((SIDE, SIDE, 3), number, np.float32))
    queue.close()
    kept = {key: pixels[row].max() for keys, pixels in queue.batches(8) for row, key in enumerate(keys)}
    assert 0 < len(kept) < 20
    assert all(int(key) == value for key, value in kept.items())
    del queue  # and its file
