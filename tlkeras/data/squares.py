"""Fitted pixels of many photos on disk, decoded once: training looks at each photo many times."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Sequence

import numpy as np

from tlkeras.data.pipeline import ImageFile, pixel_batches
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
        if shutil.disk_usage(folder).free < len(verdicts) * side_px * side_px * 3:
            # A mapped file that outgrows the disk would end the process with a bus error.
            raise OSError(errno.ENOSPC, "no space left on device")
        with tempfile.TemporaryFile(dir=folder) as file:
            pixels = np.memmap(file, np.uint8, "w+", shape=shape)
    files = [ImageFile(v.path, v.orientation, in_graph=not v.unserved) for v in verdicts]
    done = 0
    for indices, fitted in pixel_batches(files, side_px, fit):
        pixels[indices] = np.rint(fitted.clip(0, 255)).astype(np.uint8)
        done += len(indices)
        progress(done, len(files))
    return pixels
