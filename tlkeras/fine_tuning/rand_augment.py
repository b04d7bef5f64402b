"""RandAugment (Cubuk et al. 2020) by stateless operations, and the warp that all geometric changes share."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

Tensor = Any


def warp(pixels: Tensor, matrix: Tensor, size_px: int) -> Tensor:
    """Lay squares anew by affine maps: float32 ``[N, H, H, 3]`` → ``[N, size_px, size_px, 3]``, bilinear.

    ``matrix``: float32 ``[N, 6]``, rows ``(a, b, c, d, e, f)``. A point (x, y) of the result, in −½..½ from the
    centre, shows what lies at (a·x + b·y + c, d·x + e·y + f) of the input. Outside, the input is mirrored.
    """
    side = tf.cast(tf.shape(pixels)[1], tf.float32)
    a, b, c, d, e, f = tf.unstack(matrix, axis=1)
    scale = side / size_px

    def offset(along: Tensor, across: Tensor, shift: Tensor) -> Tensor:
        # From pixel numbers to places and back: number n has its centre at (n + ½) / side − ½.
        start = (0.5 / size_px - 0.5) * (along + across) + shift
        return (start + 0.5) * side - 0.5

    zero = tf.zeros_like(a)
    rows = [a * scale, b * scale, offset(a, b, c), d * scale, e * scale, offset(d, e, f), zero, zero]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=tf.stack(rows, axis=1),
        output_shape=[size_px, size_px],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


class RandAugment(keras.layers.Layer):
    """``count`` operations, drawn for each image, of one magnitude in 0..10.

    Call: float32 ``[N, H, H, 3]`` in 0..255 and an int64 ``[2]`` seed; gives the same shape and range.
    """

    def __init__(self, count: int, magnitude: float) -> None:
        super().__init__(dtype="float32")
        self.count = count
        self.magnitude = magnitude

    def call(self, pixels: Tensor, seed: Tensor) -> Tensor:
        """See the class."""
        images = tf.shape(pixels)[0]
        operations = _operations(self.magnitude / 10)
        first, second = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        chosen = tf.random.stateless_uniform([images, self.count], first, 0, len(operations), tf.int32)
        signs = tf.sign(tf.random.stateless_uniform([images, self.count], second, -1.0, 1.0))

        def changed(arguments: tuple[Tensor, Tensor, Tensor]) -> Tensor:
            image, numbers, directions = arguments
            for at in range(self.count):
                branches = [lambda o=o, i=image, s=directions[at]: o(i, s) for o in operations]
                image = tf.ensure_shape(tf.switch_case(numbers[at], branches), pixels.shape[1:])
            return image

        specification = tf.TensorSpec(pixels.shape[1:], tf.float32)
        changed_pixels = tf.map_fn(changed, (pixels, chosen, signs), fn_output_signature=specification)
        return tf.clip_by_value(changed_pixels, 0.0, 255.0)


def _operations(level: float) -> list[Any]:
    """Functions of an image float32 ``[H, H, 3]`` and a sign; ``level`` in 0..1."""
    angle = math.radians(30 * level)
    shift = 0.3 * level

    def affine(matrix: Any) -> Any:
        def change(image: Tensor, sign: Tensor) -> Tensor:
            row = tf.stack([tf.convert_to_tensor(value, tf.float32) for value in matrix(sign)])
            return warp(image[None], row[None], image.shape[0])[0]

        return change

    def blend(other: Any, share: float) -> Any:
        # Away from ``other`` or towards it, as the sign says.
        return lambda image, sign: image + (image - other(image)) * share * sign

    def grey(image: Tensor) -> Tensor:
        return tf.image.rgb_to_grayscale(image)

    return [
        lambda image, sign: image,
        affine(lambda s: (math.cos(angle), -s * math.sin(angle), 0.0, s * math.sin(angle), math.cos(angle), 0.0)),
        affine(lambda s: (1.0, s * shift, 0.0, 0.0, 1.0, 0.0)),
        affine(lambda s: (1.0, 0.0, 0.0, s * shift, 1.0, 0.0)),
        affine(lambda s: (1.0, 0.0, s * shift, 0.0, 1.0, 0.0)),
        affine(lambda s: (1.0, 0.0, 0.0, 0.0, 1.0, s * shift)),
        blend(tf.zeros_like, 0.9 * level),  # brightness
        blend(lambda image: tf.reduce_mean(grey(image)), 0.9 * level),  # contrast
        blend(grey, 0.9 * level),  # colour
        blend(_smooth, 0.9 * level),  # sharpness
        lambda image, sign: tf.where(image >= 256.0 * (1.0 - level), 255.0 - image, image),  # solarise
        lambda image, sign: _posterise(image, 8 - round(4 * level)),
        lambda image, sign: _autocontrast(image),
        lambda image, sign: _equalise(image),
    ]


def _smooth(image: Tensor) -> Tensor:
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13.0
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
    return tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "SAME")[0]


def _posterise(image: Tensor, bits: int) -> Tensor:
    step = float(2 ** (8 - bits))
    return tf.floor(image / step) * step


def _autocontrast(image: Tensor) -> Tensor:
    low = tf.reduce_min(image, axis=[0, 1], keepdims=True)
    spread = tf.reduce_max(image, axis=[0, 1], keepdims=True) - low
    return tf.where(spread > 0, (image - low) * 255.0 / tf.maximum(spread, 1e-6), image)


def _equalise(image: Tensor) -> Tensor:
    levels = tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.int32)
    channels = tf.transpose(tf.reshape(levels, [-1, 3]))  # [3, H·W]
    ranks = tf.cumsum(tf.math.bincount(channels, minlength=256, maxlength=256, axis=-1), axis=1)
    table = tf.cast(ranks, tf.float32) * (255.0 / tf.cast(tf.shape(channels)[1], tf.float32))
    return tf.reshape(tf.transpose(tf.gather(table, channels, batch_dims=1)), tf.shape(image))
