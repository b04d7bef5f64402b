"""Fitted pixels of many photos on disk, decoded once: training looks at each photo many times."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import numpy as np

from tlkeras.data.pipeline import pixel_batches
from tlkeras.data.verdicts import Verdict
from tlkeras.progress import Advance
from tlkeras.storage import cache_root, disk_errors


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
