"""EfficientNet-Lite, which keras.applications does not have, and its published weights.

EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946) without squeeze and excitation and with ReLU6 in the
place of swish, made for telephones; stem and head keep their width whatever the variant.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tlkeras.backbones.torch_file import read_tensors

# Of each stage: repeats, kernel, stride of the first, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280
_EPSILON = 1e-3


def efficientnet_lite(
    *,
    width: float,
    depth: float,
    include_top: bool,
    input_shape: tuple[int, int, int],
    weights: None = None,
    classifier_activation: None = None,
    pooling: str = "avg",
) -> Any:
    """A Keras model that scales pixels in 0..255 itself; features ``[N, 1280]``, or ImageNet logits ``[N, 1000]``.

    ``width`` and ``depth`` multiply channels and repeats, of the first and the last stage's the channels only. The
    other arguments are those of keras.applications, of which the defaults are all that there is.
    """
    import keras

    def normalised(maps: Any, layer: Any, name: str, *, active: bool = True) -> Any:
        maps = keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_bn")(layer(maps))
        return keras.layers.ReLU(6.0, name=f"{name}_activation")(maps) if active else maps

    def convolution(channels: int, name: str, kernel: int = 1, stride: int = 1) -> Any:
        return keras.layers.Conv2D(
            channels, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
        )

    pixels = keras.Input(input_shape)
    maps = keras.layers.Rescaling(1 / 128, -127 / 128, name="rescaling")(pixels)
    maps = normalised(maps, convolution(_STEM, "stem", 3, 2), "stem")
    for number, (repeats, kernel, first_stride, expansion, channels) in enumerate(_STAGES):
        inner = 0 < number < len(_STAGES) - 1
        for repeat in range(math.ceil(depth * repeats) if inner else repeats):
            name = f"block{number + 1}{chr(ord('a') + repeat)}"
            stride = 1 if repeat else first_stride
            given = maps
            if expansion > 1:
                expanded = convolution(given.shape[-1] * expansion, f"{name}_expand")
                maps = normalised(maps, expanded, f"{name}_expand")
            depthwise = keras.layers.DepthwiseConv2D(
                kernel, stride, "same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_dwconv"
            )
            maps = normalised(maps, depthwise, f"{name}_dw")
            projected = convolution(_rounded(width * channels), f"{name}_project")
            maps = normalised(maps, projected, f"{name}_project", active=False)
            if repeat:
                maps = keras.layers.Add(name=f"{name}_add")([given, maps])
    maps = normalised(maps, convolution(_HEAD, "top"), "top")
    output = keras.layers.GlobalAveragePooling2D(name="avg_pool")(maps)
    if include_top:
        output = keras.layers.Dense(1000, name="predictions")(output)
    return keras.Model(pixels, output, name="efficientnet_lite")


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def load_published(network: Any, path: Path) -> None:
    """Give the network with its ImageNet top the tensors of a file that was published for PyTorch.

    Raises: WeightsError for a file that is damaged or holds anything but tensors.
    """
    import keras

    # Both name what they hold from the pixels on; PyTorch counts the batches of each normalisation too.
    tensors = (values for name, values in read_tensors(path).items() if not name.endswith("num_batches_tracked"))
    for layer in network.layers:
        # From PyTorch's [out, in, h, w], [channels, 1, h, w] and [out, in]; a normalisation has vectors.
        axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
        given = [next(tensors) for _ in layer.weights]
        layer.set_weights([values.transpose(axes) if values.ndim == 4 else values.T for values in given])
