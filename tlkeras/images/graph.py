"""The decoder and the resize again, as TensorFlow graph operations: for pipelines and for served models.

Every function here gives the same pixels as ``decode.py`` and ``resize.py`` on the same bytes (the tests hold
them together); what it cannot decode alike it refuses by name.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tlkeras.images.decode import SERVED_FORMATS
from tlkeras.images.header import format_of, read_header
from tlkeras.images.orientation import STEPS
from tlkeras.images.resize import PAD_VALUE_255, axis

Tensor = Any


def decode(data: Tensor, orientation: Tensor | None = None) -> Tensor:
    """Decode the bytes of one image file: scalar string → uint8 ``[H, W, 3]`` RGB, upright.

    Give ``orientation`` (int32 scalar, 1..8) for a file that the audit has passed: the header is not read
    again. Without it the header is read in the graph, and a file that cannot be decoded to the same pixels
    as in Python fails with InvalidArgumentError and a line that says why.
    """
    if orientation is None:
        header = read_header(data)
        refused = tf.debugging.Assert(tf.equal(header.refusal, ""), [header.refusal])
        with tf.control_dependencies([refused] if refused is not None else []):
            data = tf.identity(data)
        orientation = header.orientation
        kind = header.format
    else:
        kind = format_of(data)
    branches = [_jpeg, _png, _gif, _bmp, _webp]
    index = tf.argmax(tf.equal(kind, tf.constant(SERVED_FORMATS)), output_type=tf.int32)
    pixels = tf.switch_case(index, [lambda decoder=decoder: decoder(data) for decoder in branches])
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
    batch = pixels[tf.newaxis] if single else pixels
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


def _png(data: Tensor) -> Tensor:
    # Grey of 1, 2 or 4 bits has no alpha here (read_header refuses the rare file that has), and TensorFlow
    # fills the missing alpha with the grey's own largest value instead of 255.
    shallow_grey = tf.strings.regex_full_match(tf.strings.substr(data, 24, 2), r"[\x01\x02\x04]\x00")
    return tf.cond(
        shallow_grey,
        lambda: tf.io.decode_png(data, channels=3),
        lambda: _over_white(tf.io.decode_png(data, channels=4)),
    )


def _gif(data: Tensor) -> Tensor:
    return tf.io.decode_image(data, channels=3, expand_animations=False)


def _bmp(data: Tensor) -> Tensor:
    return tf.io.decode_bmp(data, channels=0)[..., :3]


def _webp(data: Tensor) -> Tensor:
    frame = tf.image.decode_webp(data, channels=0)[0]
    opaque = tf.equal(tf.shape(frame)[-1], 3)
    # With three channels there is no fourth to read: pad one on, which the opaque branch never looks at.
    return tf.cond(opaque, lambda: frame[..., :3], lambda: _over_white(frame))


def _over_white(rgba: Tensor) -> Tensor:
    wide = tf.cast(rgba, tf.int32)
    colour, alpha = wide[..., :3], wide[..., 3:]
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)
