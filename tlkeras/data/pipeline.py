"""Image files to fitted pixels, decoded by threads beside the consumer's work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tlkeras.errors import ImageError
from tlkeras.images.arrays import as_pixels
from tlkeras.images.decode import decode, read_bytes
from tlkeras.images.resize import check_fit, fit_to_square
from tlkeras.machine import usable_cpus

BATCH_SIZE = 32
# Batches of decoded images that wait at most, for the network or for their turn: 19 MB each at 224 px.
BATCHES_AHEAD = 3

Known = TypeVar("Known")
Made = TypeVar("Made")


def reading_threads() -> int:
    """Threads that read and decode: twice the cores, since some wait for the disk, at most 16."""
    return min(16, 2 * usable_cpus())


def pixel_batches(
    paths: Sequence[str],
    size_px: int,
    fit: str,
    *,
    batch_size: int = BATCH_SIZE,
    failed: Callable[[int, ImageError], None] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Decode and fit files, in order, in batches of ``(indices, pixels)``.

    ``indices``: int64 ``[n]`` into ``paths``; ``pixels``: float32 ``[n, size_px, size_px, 3]`` RGB in 0..255,
    1 ≤ n ≤ ``batch_size``. A file that cannot be decoded is handed to ``failed`` with its index and the pass goes on.

    Raises: ConfigError for an unknown fit or size; ImageError, naming the file, when ``failed`` is not given.
    """
    check_fit(fit, size_px)

    def load(index: int) -> tuple[int, np.ndarray | ImageError]:
        try:
            return index, fitted_image(paths[index], size_px, fit)
        except ImageError as error:
            return index, error

    indices: list[int] = []
    squares: list[np.ndarray] = []
    for index, square in in_order(load, range(len(paths)), ahead=BATCHES_AHEAD * batch_size):
        if isinstance(square, ImageError):
            if failed is None:
                raise ImageError(square.reason, f"{square.rule} ('{paths[index]}')", received=square.received)
            failed(index, square)
            continue
        indices.append(index)
        squares.append(square)
        if len(indices) == batch_size:
            yield np.array(indices), np.stack(squares)
            indices, squares = [], []
    if indices:
        yield np.array(indices), np.stack(squares)


def in_order(
    work: Callable[[Known], Made], items: Iterable[Known], *, ahead: int, threads: int | None = None
) -> Iterator[Made]:
    """``work(item)`` for each item, in their order, by threads that run at most ``ahead`` items in front."""
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(threads or reading_threads(), thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def in_batches(
    compute: Callable[[np.ndarray], np.ndarray],
    decoded: Iterable[tuple[Known, np.ndarray | None]],
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[Known, np.ndarray | None]]:
    """What is known of each image, in order, with what ``compute`` says of its pixels ``[S, S, 3]``, None without.

    ``compute``: float32 ``[n, S, S, 3]``, n ≤ ``batch_size``, to one row for each.
    """
    waiting: list[tuple[Known, np.ndarray | None]] = []
    count = 0

    def answered() -> Iterator[tuple[Known, np.ndarray | None]]:
        squares = [square for _, square in waiting if square is not None]
        rows = iter(compute(np.stack(squares)) if squares else ())
        return ((known, None if square is None else next(rows)) for known, square in waiting)

    for known, square in decoded:
        waiting.append((known, square))
        count += square is not None
        if count == batch_size:
            yield from answered()
            waiting, count = [], 0
    yield from answered()


def fitted_pixels(data: bytes, size_px: int, fit: str) -> np.ndarray:
    """Decode the bytes of one image with Pillow and fit them: float32 ``[size_px, size_px, 3]`` in 0..255.

    Raises: ImageError when the bytes cannot be decoded.
    """
    return fit_to_square(decode(data).pixels, size_px, fit)


def fitted_image(image: Any, size_px: int, fit: str) -> np.ndarray:
    """One image from anywhere, fitted: float32 ``[size_px, size_px, 3]`` in 0..255.

    ``image``: a path, the bytes of an image file, a PIL image, or an array ``[H, W]``, ``[H, W, 1]`` or
    ``[H, W, 3]`` in 0..255.

    Raises: ImageError when it cannot be decoded; ConfigError for an array of another shape or range.
    """
    if isinstance(image, str | Path):
        return fitted_pixels(read_bytes(image), size_px, fit)
    if isinstance(image, bytes | bytearray | memoryview):
        return fitted_pixels(bytes(image), size_px, fit)
    return fit_to_square(as_pixels(image), size_px, fit)
