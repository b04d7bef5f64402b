"""Random changes that must not matter to an ideal image: moves, turns, scales, brightness, noise.

What survives them is structure; what a network alone reads into single pixels does not (Olah et al. 2017,
"transformation robustness"). All randomness comes from a seed pair, so that a run can be repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Tensor = Any


@dataclass(frozen=True)
class Transforms:
    """How much each image of a batch is changed, each on its own, in every step.

    jitter: moves up to this share of the side, each way. turn_degrees: turns up to this, each way.
    scale: (least, greatest) zoom. contrast: up to this share more or less. noise_255: standard deviation.
    """

    jitter: float = 0.0
    turn_degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    contrast: float = 0.0
    noise_255: float = 0.0
    mirror: bool = False

    @property
    def moves(self) -> bool:
        """Whether the image is resampled at all."""
        return bool(self.jitter or self.turn_degrees or self.mirror) or self.scale != (1.0, 1.0)

    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """Changed images, float32 ``[N, S, S, 3]`` about in 0..255; ``seed``: int32 ``[2]``."""
        import tensorflow as tf

        count, size_px = tf.shape(image)[0], image.shape[1]

        def draw(stream: int, low: float, high: float, shape: Any = None) -> Tensor:
            shape = [count] if shape is None else shape
            return tf.random.stateless_uniform(shape, seed + tf.constant([0, stream]), low, high)

        if self.moves:
            zoom = tf.exp(draw(1, math.log(self.scale[0]), math.log(self.scale[1] + 1e-9)))
            angle = draw(2, -math.radians(self.turn_degrees), math.radians(self.turn_degrees) + 1e-9)
            right, down = (draw(stream, -self.jitter, self.jitter + 1e-9) * size_px for stream in (3, 4))
            flip = tf.where(draw(5, 0.0, 1.0) < 0.5, -1.0, 1.0) if self.mirror else tf.ones([count])
            image = _resample(image, zoom, angle, right, down, flip)
        if self.contrast:
            mean = tf.reduce_mean(image, axis=[1, 2, 3], keepdims=True)
            factor = draw(6, 1.0 - self.contrast, 1.0 + self.contrast, [count, 1, 1, 1])
            image = mean + (image - mean) * factor
        if self.noise_255:
            image += self.noise_255 * tf.random.stateless_normal(tf.shape(image), seed + tf.constant([0, 7]))
        return image


def _resample(image: Tensor, zoom: Tensor, angle: Tensor, right: Tensor, down: Tensor, flip: Tensor) -> Tensor:
    """Zoomed, turned and moved about the centre, bilinear; what lies outside is mirrored in."""
    import tensorflow as tf

    size_px = image.shape[1]
    centre = (size_px - 1) / 2
    cosine, sine = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    a, b, c, d = cosine * flip, -sine, sine * flip, cosine
    zeros = tf.zeros_like(zoom)
    # Output (x, y) is taken from input (a x + b y + e, c x + d y + f).
    e = centre - a * centre - b * centre + right
    f = centre - c * centre - d * centre + down
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image,
        transforms=tf.stack([a, b, e, c, d, f, zeros, zeros], axis=1),
        output_shape=[size_px, size_px],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
