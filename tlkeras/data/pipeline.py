"""The tf.data pipeline: image files to batches of fitted pixels, decoded in parallel with the consumer's work."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import ImageError
from tlkeras.images.arrays import as_pixels
from tlkeras.images.decode import Limits, decode, read_bytes
from tlkeras.images.resize import check_fit
from tlkeras.machine import usable_cpus


@dataclass(frozen=True)
class ImageFile:
    """One file as the audit saw it.

    in_graph: whether TensorFlow decodes it to the same pixels as Pillow; ``orientation`` (EXIF, 1..8) is then
    what the graph has to undo.
    """

    path: str
    orientation: int = 1
    in_graph: bool = True


def pixel_batches(
    files: Sequence[ImageFile],
    size_px: int,
    fit: str,
    *,
    batch_size: int = 32,
    failed: Callable[[int, ImageError], None] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Decode and fit files, in batches of ``(indices, pixels)``.

    ``indices``: int64 ``[n]`` into ``files``; ``pixels``: float32 ``[n, size_px, size_px, 3]`` RGB in 0..255,
    1 ≤ n ≤ ``batch_size``. Files that TensorFlow reads come first and in order, those for Pillow after them.
    A file that cannot be decoded is handed to ``failed`` with its index and the pass goes on.

    Raises: ConfigError for an unknown fit or size; ImageError, naming the file, when ``failed`` is not given.
    """
    check_fit(fit, size_px)
    remaining = np.ones(len(files), bool)
    in_graph = np.array([i for i, file in enumerate(files) if file.in_graph], np.int64)
    if len(in_graph):
        for indices, pixels in _graph_dataset(files, in_graph, size_px, fit, batch_size).as_numpy_iterator():
            remaining[indices] = False
            yield indices, pixels
    # What the graph has dropped (a file that Pillow reads and TensorFlow does not) is among the remaining.
    yield from _pillow_batches(files, np.flatnonzero(remaining), size_px, fit, batch_size, failed)


def _graph_dataset(files: Sequence[ImageFile], chosen: np.ndarray, size_px: int, fit: str, batch_size: int) -> Any:
    import tensorflow as tf

    from tlkeras.images import graph

    def load(index: Any, path: Any, orientation: Any) -> tuple[Any, Any]:
        pixels = _traced_decoder()(tf.io.read_file(path), orientation)
        return index, graph.fit_to_square(pixels, size_px, fit)

    # Absolute, so that no name is taken for a file system's prefix; bytes, because names need not be UTF-8.
    paths = [os.fsencode(os.path.abspath(files[i].path)) for i in chosen]  # noqa: PTH100 (pathlib refuses some names)
    orientations = np.array([files[i].orientation for i in chosen], np.int32)
    dataset = tf.data.Dataset.from_tensor_slices((chosen, paths, orientations))
    # No AUTOTUNE: its thread wakes after 10 ms, 20 ms, 40 ms and so on, and an iterator that ends meanwhile may wait
    # for it, for up to half the time that the pass took.
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.with_options(options).map(load, num_parallel_calls=usable_cpus())
    # An element that fails is dropped without a word; its index tells the caller which one it was.
    return dataset.ignore_errors(log_warning=False).batch(batch_size).prefetch(2)


@functools.cache
def _traced_decoder() -> Any:
    """``graph.decode`` as one function for all passes of a process: tracing it takes seconds."""
    import tensorflow as tf

    from tlkeras.images import graph

    return tf.function(graph.decode, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)])


def _pillow_batches(
    files: Sequence[ImageFile],
    chosen: np.ndarray,
    size_px: int,
    fit: str,
    batch_size: int,
    failed: Callable[[int, ImageError], None] | None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    indices: list[int] = []
    squares: list[np.ndarray] = []
    for index in chosen:
        try:
            squares.append(fitted_pixels(read_bytes(files[index].path), size_px, fit))
            indices.append(int(index))
        except ImageError as error:
            if failed is None:
                raise ImageError(
                    error.reason, f"{error.rule} ('{files[index].path}')", received=error.received
                ) from None
            failed(int(index), error)
        if len(indices) == batch_size:
            yield np.array(indices), np.stack(squares)
            indices, squares = [], []
    if indices:
        yield np.array(indices), np.stack(squares)


def fitted_pixels(data: bytes, size_px: int, fit: str, limits: Limits = Limits()) -> np.ndarray:
    """Decode the bytes of one image with Pillow and fit them: float32 ``[size_px, size_px, 3]`` in 0..255.

    Raises: ImageError when the bytes cannot be decoded.
    """
    from tlkeras.images import graph

    return graph.fit_to_square(decode(data, limits).pixels, size_px, fit).numpy()


def fitted_image(image: Any, size_px: int, fit: str) -> np.ndarray:
    """One image from anywhere, fitted: float32 ``[size_px, size_px, 3]`` in 0..255.

    ``image``: a path, the bytes of an image file, a PIL image, or an array ``[H, W]``, ``[H, W, 1]`` or
    ``[H, W, 3]`` in 0..255.

    Raises: ImageError when it cannot be decoded; ConfigError for an array of another shape or range.
    """
    from tlkeras.images import graph

    if isinstance(image, str | Path):
        return fitted_pixels(read_bytes(image), size_px, fit)
    if isinstance(image, bytes | bytearray | memoryview):
        return fitted_pixels(bytes(image), size_px, fit)
    return graph.fit_to_square(as_pixels(image), size_px, fit).numpy()
