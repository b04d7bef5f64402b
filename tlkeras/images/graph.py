"""The decoder and the resize again, as TensorFlow graph operations: for pipelines and for served models.

Every function here gives the same pixels as ``decode.py`` and ``resize.py`` on the same bytes (the tests hold
them together); what it cannot decode alike it refuses by name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tlkeras.images import header
from tlkeras.images.header import REFUSALS, SERVED_FORMATS, Header
from tlkeras.images.resize import PAD_VALUE_255, STEPS, axis

Tensor = Any
# Whatever a walk reads at the end of a file, it reads at most so many bytes; they are zeros there.
_BEYOND = 8
# Of the checksum of PNG chunks (W3C PNG annex D): what one byte does to it.
_CRC_TABLE = [zlib.crc32(bytes([value ^ 0xFF]), 0) ^ 0xFFFFFFFF ^ 0x00FFFFFF for value in range(256)]
# Rows of so many pixels at a time are laid over white: a large picture is never held in wider numbers.
_BLOCK_PIXELS = 2**20


class GraphBytes:
    """``tlkeras.images.parts.Bytes`` of a scalar string tensor: the same numbers, as int64 scalar tensors."""

    def __init__(self, data: Tensor) -> None:
        self.size = tf.cast(tf.strings.length(data), tf.int64)
        self._data = tf.strings.join([data, "\0" * _BEYOND])

    def number(self, at: Tensor | int, size: int, little: Tensor | bool = False) -> Tensor:
        """The unsigned number of 1, 2 or 4 bytes at a place."""
        field = self._field(at, size)
        if isinstance(little, bool):
            return _decoded(field, size, little)
        return tf.where(little, _decoded(field, size, True), _decoded(field, size, False))

    def letters(self, at: Tensor) -> Tensor:
        """Whether the four bytes at a place are ASCII letters."""
        return tf.strings.regex_full_match(self._field(at, 4), "[A-Za-z]{4}")

    def sum_holds(self, at: Tensor, length: Tensor) -> Tensor:
        """1 where the PNG chunk at a place, with a content of some (short) length, has the checksum that it carries."""
        content = tf.strings.substr(self._data, at + 4, length + 4)
        content = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int64)
        table = tf.constant(_CRC_TABLE, tf.int64)

        def step(index: Tensor, sum_: Tensor) -> tuple[Tensor, Tensor]:
            place = tf.bitwise.bitwise_xor(sum_ % 256, content[index])
            return index + 1, tf.bitwise.bitwise_xor(tf.gather(table, place), sum_ // 256)

        start = tf.constant(0, tf.int64), tf.constant(2**32 - 1, tf.int64)
        _, sum_ = tf.while_loop(lambda index, _: index < length + 4, step, start, parallel_iterations=1)
        return tf.cast(2**32 - 1 - sum_ == self.number(at + 8 + length, 4), tf.int64)

    def where(self, condition: Tensor, chosen: Tensor | int, otherwise: Tensor | int) -> Tensor:
        """One number or the other."""
        return tf.where(condition, tf.cast(chosen, tf.int64), tf.cast(otherwise, tf.int64))

    def choose(self, index: Tensor, branches: Sequence[Callable[[], tuple[Tensor, ...]]]) -> tuple[Tensor, ...]:
        """The numbers that one of the functions gives."""
        return tuple(tf.switch_case(tf.cast(index, tf.int32), list(branches)))

    def walk(self, more: Callable, step: Callable, start: tuple[Tensor, ...], most: int) -> tuple[Tensor, ...]:
        """Step from ``start`` while there is more, at most ``most`` times."""
        return tuple(tf.while_loop(more, step, start, maximum_iterations=most, parallel_iterations=1))

    def _field(self, at: Tensor | int, size: int) -> Tensor:
        at = tf.minimum(tf.cast(at, tf.int64), self.size)
        return tf.strings.substr(self._data, at, tf.constant(size, tf.int64))


def _decoded(field: Tensor, size: int, little: bool) -> Tensor:
    kind = {1: tf.uint8, 2: tf.uint16, 4: tf.int32}[size]
    value = tf.cast(tf.io.decode_raw(field, kind, little_endian=little)[0], tf.int64)
    return value % 2**32 if size == 4 else value


def read_header(data: Tensor) -> Header:
    """The header of one image file, a scalar string tensor, as int64 scalar tensors; never fails."""
    return header.read_header(GraphBytes(data))


def decode(data: Tensor, orientation: Tensor | None = None) -> Tensor:
    """Decode the bytes of one image file: scalar string → uint8 ``[H, W, 3]`` RGB, upright.

    Give ``orientation`` (int32 scalar, 1..8) for a file that the audit has passed: the header is not read
    again. Without it the header is read in the graph, and a file that cannot be decoded to the same pixels
    as in Python fails with InvalidArgumentError and a line that says why.
    """
    if orientation is not None:
        return _decoded_as(header.kind_of(GraphBytes(data)), data, orientation)
    found = read_header(data)
    with tf.control_dependencies(_asserted(found)):
        return _decoded_as(found.kind, tf.identity(data), found.orientation, found.end, found.colours)


def fitted_batch(batch: Tensor, size_px: int, fit: str) -> Tensor:
    """Decode and fit image files, strings ``[N]``: float32 ``[N, size_px, size_px, 3]`` in 0..255.

    Several are decoded at a time where they need no more memory together than one may; else one after the other.
    Fails with InvalidArgumentError as ``decode`` does.
    """
    spec = Header(*[tf.TensorSpec([], tf.int64)] * len(Header._fields))
    found = tf.map_fn(read_header, batch, fn_output_signature=spec)
    with tf.control_dependencies(_asserted(found)):
        batch = tf.identity(batch)

    def fitted(at_a_time: int) -> Tensor:
        return tf.map_fn(
            lambda each: fit_to_square(_decoded_as(*each), size_px, fit),
            (found.kind, batch, found.orientation, found.end, found.colours),
            fn_output_signature=tf.TensorSpec([size_px, size_px, 3], tf.float32),
            parallel_iterations=at_a_time,
        )

    return tf.cond(tf.reduce_sum(found.memory) <= header.MOST_MEMORY, lambda: fitted(10), lambda: fitted(1))


def _asserted(found: Header) -> list[Tensor]:
    """What has to run before a decoder may see the file, or the files: none of them is refused."""
    reason = tf.gather(tf.constant(REFUSALS), tf.reduce_max(found.refusal))
    refused = tf.debugging.Assert(tf.reduce_all(found.refusal == 0), [reason])
    return [] if refused is None else [refused]


def _decoded_as(
    kind: Tensor, data: Tensor, orientation: Tensor, end: Tensor | None = None, colours: Tensor | None = None
) -> Tensor:
    """Decode what is known to be of a kind. ``end``, ``colours``: as in ``Header``, read where needed if None."""

    def known(kind: str) -> tuple[Tensor, Tensor]:
        # Of one kind only: the readers of all of them make a graph that takes seconds to build.
        return (end, colours) if end is not None else header.READERS[kind](GraphBytes(data))[-2:]

    def png() -> Tensor:
        # Four channels only where there are four: for those that lack alpha TensorFlow makes up a wrong one in PNGs
        # below 8 bits, and they would cost memory.
        return tf.cond(
            known("png")[1] > 0,
            lambda: _over_white(tf.io.decode_png(data, channels=4)),
            lambda: tf.io.decode_png(data, channels=3),
        )

    def gif() -> Tensor:
        # TensorFlow unpacks every picture of an animation before it takes the first.
        first = tf.strings.join([_up_to(data, known("gif")[0]), ";"])
        return tf.io.decode_image(first, channels=3, expand_animations=False)

    def bmp() -> Tensor:
        # TensorFlow wants a file that ends with its last row.
        return tf.io.decode_bmp(_up_to(data, known("bmp")[0]), channels=0)[..., :3]

    branches = dict(zip(SERVED_FORMATS, (lambda: _jpeg(data), png, gif, bmp, lambda: _webp(data)), strict=True))
    pixels = tf.switch_case(tf.cast(kind, tf.int32), list(branches.values()))
    pixels.set_shape([None, None, 3])
    return upright(pixels, orientation)


def upright(pixels: Tensor, orientation: Tensor) -> Tensor:
    """Turn ``[H, W, 3]`` pixels as their EXIF orientation (int32 scalar, 1..8) asks."""
    swap, flip_rows, flip_columns = (
        tf.gather(tf.constant([False, *(steps[i] for steps in STEPS.values())]), orientation) for i in range(3)
    )
    pixels = tf.cond(swap, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    pixels = tf.cond(flip_rows, lambda: tf.reverse(pixels, [0]), lambda: pixels)
    pixels = tf.cond(flip_columns, lambda: tf.reverse(pixels, [1]), lambda: pixels)
    pixels.set_shape([None, None, 3])
    return pixels


def fit_to_square(pixels: Tensor, size_px: int, fit: str) -> Tensor:
    """The resize rule by TensorFlow's own antialiased operation.

    ``pixels``: uint8 or float32 ``[H, W, 3]`` or ``[N, H, W, 3]`` in 0..255. Returns float32
    ``[size_px, size_px, 3]`` (or with N in front) in 0..255. Not convertible to ONNX; see ``fit_by_matrix``.
    """
    pixels = tf.convert_to_tensor(pixels)
    single = pixels.shape.rank == 3
    batch = tf.expand_dims(pixels, 0) if single else pixels
    (top, bottom, first_row, rows), (left, right, first_column, columns) = _axes(batch, size_px, fit)
    scale = tf.stack([rows / (bottom - top), columns / (right - left)])
    translation = tf.stack([first_row, first_column]) - tf.stack([top, left]) * scale
    square = tf.raw_ops.ScaleAndTranslate(
        images=batch,
        size=[size_px, size_px],
        scale=scale,
        translation=translation,
        kernel_type="triangle",
        antialias=True,
    )
    if fit == "pad":
        inside = _inside(first_row, rows, size_px)[:, None] * _inside(first_column, columns, size_px)[None, :]
        square += PAD_VALUE_255 * (1.0 - inside)[..., None]
    square.set_shape([batch.shape[0], size_px, size_px, 3])
    return square[0] if single else square


def fit_by_matrix(pixels: Tensor, size_px: int, fit: str) -> Tensor:
    """The resize rule as two matrix products, from operations that every converter knows (ONNX opset 17 up).

    ``pixels``: float32 ``[N, H, W, 3]`` in 0..255, all dimensions dynamic. Returns float32
    ``[N, size_px, size_px, 3]`` in 0..255.
    """
    pixels = tf.convert_to_tensor(pixels)
    (top, bottom, first_row, rows), (left, right, first_column, columns) = _axes(pixels, size_px, fit)
    shape = tf.shape(pixels)
    row_weights = _axis_weights(shape[1], top, bottom, first_row, rows, size_px)
    column_weights = _axis_weights(shape[2], left, right, first_column, columns, size_px)
    count, height, width = shape[0], shape[1], shape[2]
    # Rows first, on the image as it lies in memory: no copy of a large photo is turned about.
    lines = tf.matmul(row_weights, tf.reshape(pixels, [count, height, width * 3]))
    lines = tf.transpose(tf.reshape(lines, [count, size_px, width, 3]), [0, 1, 3, 2])
    square = tf.transpose(tf.matmul(lines, column_weights, transpose_b=True), [0, 1, 3, 2])
    if fit == "pad":
        inside = _inside(first_row, rows, size_px)[:, None] * _inside(first_column, columns, size_px)[None, :]
        square += PAD_VALUE_255 * (1.0 - inside)[..., None]
    square.set_shape([pixels.shape[0], size_px, size_px, 3])
    return square


def _axes(batch: Tensor, size_px: int, fit: str) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    shape = tf.shape(batch)
    height, width = shape[1], shape[2]
    shorter, longer = tf.minimum(height, width), tf.maximum(height, width)
    rows = axis(height, shorter, longer, size_px, fit, tf.maximum)
    columns = axis(width, shorter, longer, size_px, fit, tf.maximum)
    return tuple(tf.cast(x, tf.float32) for x in rows), tuple(tf.cast(x, tf.float32) for x in columns)


def _inside(first: Tensor, count: Tensor, size_px: int) -> Tensor:
    """1.0 for the output samples that the image covers, 0.0 for the padding: float32 [size_px]."""
    out = tf.range(size_px, dtype=tf.float32)
    return tf.cast(tf.logical_and(out >= first, out < first + count), tf.float32)


def _axis_weights(n: Tensor, lo: Tensor, hi: Tensor, first: Tensor, count: Tensor, size_px: int) -> Tensor:
    # In the very steps of ScaleAndTranslate's kernel: rounded otherwise, pixels would differ ten times as much.
    enlargement = count / (hi - lo)
    scale = 1.0 / enlargement
    centre = (tf.range(size_px, dtype=tf.float32) + 0.5) * scale - scale * (first - lo * enlargement)
    samples = tf.cast(tf.range(n), tf.float32) + 0.5
    weights = tf.nn.relu(1.0 - tf.abs(samples[None, :] - centre[:, None]) * (1.0 / tf.maximum(scale, 1.0)))
    weights *= _inside(first, count, size_px)[:, None]
    return weights / tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 1e-6)


def _jpeg(data: Tensor) -> Tensor:
    # The exact integer transform: the default differs from Pillow by up to 4 of 255.
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def _up_to(data: Tensor, end: Tensor) -> Tensor:
    return tf.strings.substr(data, tf.constant(0, tf.int64), end)


def _webp(data: Tensor) -> Tensor:
    frame = tf.image.decode_webp(data, channels=0)[0]
    opaque = tf.equal(tf.shape(frame)[-1], 3)
    # With three channels there is no fourth to read: pad one on, which the opaque branch never looks at.
    return tf.cond(opaque, lambda: frame[..., :3], lambda: _over_white(frame))


def _over_white(rgba: Tensor) -> Tensor:
    """Lay uint8 ``[H, W, 4]`` over white, in whole numbers so that every runtime agrees, some rows at a time."""
    shape = tf.shape(rgba)
    rows = tf.maximum(_BLOCK_PIXELS // tf.maximum(shape[1], 1), 1)
    count = (shape[0] + rows - 1) // rows

    def lay(index: Tensor, laid: Any) -> tuple[Tensor, Any]:
        wide = tf.cast(rgba[index * rows : (index + 1) * rows], tf.int32)
        colour, alpha = wide[..., :3], wide[..., 3:]
        return index + 1, laid.write(index, tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8))

    def all_rows() -> Tensor:
        blocks = tf.TensorArray(tf.uint8, count, element_shape=[None, None, 3], infer_shape=False)
        start = (tf.constant(0), blocks)
        return tf.while_loop(lambda index, _: index < count, lay, start, parallel_iterations=1)[1].concat()

    return tf.cond(tf.reduce_min(rgba[..., 3]) == 255, lambda: rgba[..., :3], all_rows)
