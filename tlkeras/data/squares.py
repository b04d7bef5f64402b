"""Fitted pixels of many photos on disk, decoded once: for fine-tuning, and for a network that is not ready yet."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from queue import SimpleQueue

import numpy as np

from tlkeras.data.pipeline import pixel_batches
from tlkeras.data.verdicts import Verdict
from tlkeras.progress import Advance
from tlkeras.storage import cache_root, disk_errors

# So much of the disk a queue takes at most; 1,783 squares of 224 px.
QUEUE_BYTES = 2**30


class SquareQueue:
    """Fitted squares, float32 ``[side_px, side_px, 3]``, on their way from threads that decode to one that computes.

    They wait in a file without a name, in the cache folder: memory does not grow. Who has one more than ``most_bytes``
    of them waits until another is taken.

    Raises: StorageError when the disk refuses the file.
    """

    def __init__(self, side_px: int, most_bytes: int = QUEUE_BYTES) -> None:
        self._side_px, self._size = side_px, side_px * side_px * 3 * 4
        with disk_errors(cache_root()):
            cache_root().mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=cache_root())  # noqa: SIM115 (lives as long as the queue)
        self._free: SimpleQueue[int] = SimpleQueue()  # places in the file; -1 where nobody takes any more
        self._ready: SimpleQueue[tuple[str, int] | None] = SimpleQueue()
        for place in range(max(1, most_bytes // self._size)):
            self._free.put(place)

    def put(self, key: str, square: np.ndarray) -> None:
        """Add a square; it is dropped where nobody takes it any more, or where the disk is full."""
        place = self._free.get()
        if place < 0:
            self._free.put(place)
            return
        try:
            written = os.pwrite(self._file.fileno(), np.ascontiguousarray(square, np.float32).data, place * self._size)
        except OSError:
            written = 0
        if written == self._size:
            self._ready.put((key, place))
        else:
            self._free.put(place)

    def close(self) -> None:
        """Say that none will be added."""
        self._ready.put(None)

    def stop(self) -> None:
        """Say that none will be taken: whoever waits goes on."""
        self._free.put(-1)

    def batches(self, size: int) -> Iterator[tuple[list[str], np.ndarray]]:
        """Keys and pixels, float32 ``[n, side_px, side_px, 3]``, n ≤ ``size``, until none will be added."""
        keys: list[str] = []
        pixels: list[np.ndarray] = []
        while (one := self._ready.get()) is not None:
            key, place = one
            data = os.pread(self._file.fileno(), self._size, place * self._size)
            self._free.put(place)
            keys.append(key)
            pixels.append(np.frombuffer(data, np.float32).reshape(self._side_px, self._side_px, 3))
            if len(keys) == size:
                yield keys, np.stack(pixels)
                keys, pixels = [], []
        if keys:
            yield keys, np.stack(pixels)


def squares(
    verdicts: Sequence[Verdict],
    side_px: int,
    fit: str,
    *,
    progress: Advance = lambda done, total: None,
) -> np.ndarray:
    """Photos that the audit has kept as uint8 ``[N, side_px, side_px, 3]`` RGB in 0..255, in their order.

    The array lies in a file of the cache folder without a name: memory does not grow with the number of photos, the
    operating system keeps there what fits, and the space is free again when the array or the process is gone.

    Raises: ImageError, naming the file, when one cannot be decoded any more; StorageError when the disk refuses.
    """
    folder = cache_root()
    shape = (len(verdicts), side_px, side_px, 3)
    if not verdicts:
        return np.zeros(shape, np.uint8)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            _allocate(file.fileno(), len(verdicts) * side_px * side_px * 3)
            pixels = np.memmap(file, np.uint8, "r+", shape=shape)
    done = 0
    for indices, fitted in pixel_batches([verdict.path for verdict in verdicts], side_px, fit):
        pixels[indices] = np.rint(fitted.clip(0, 255)).astype(np.uint8)
        done += len(indices)
        progress(done, len(verdicts))
    return pixels


def _allocate(descriptor: int, size: int) -> None:
    """Take the space now, in bytes: a mapped file that outgrows the disk ends the process with a bus error.

    Raises: OSError when it is not there.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(1 << 20)  # macOS: what is written is there
    for at in range(0, size, len(zeros)):
        os.pwrite(descriptor, zeros[: size - at], at)
