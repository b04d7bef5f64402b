"""Backbones as Keras models: pixels in 0..255 in, features or ImageNet logits out, preprocessing inside."""

from __future__ import annotations

import functools
import importlib
import os
import random
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.backbones.efficientnet_lite import load_published
from tlkeras.backbones.table import BUILT_IN, CAFFE, TF, TORCH, Backbone, get
from tlkeras.backbones.tensors import named, tensors_sha256
from tlkeras.backbones.weights import IMAGENET, NONE, PRETRAINED, Progress, cached_copy, check_tensors, resolve
from tlkeras.errors import ConfigError, WeightsError
from tlkeras.storage import disk_errors, write_bytes

if TYPE_CHECKING:
    import keras

# ImageNet's channel statistics as keras.applications uses them.
_BGR_MEAN_255 = (103.939, 116.779, 123.68)
_RGB_MEAN = (0.485, 0.456, 0.406)
_RGB_STD = (0.229, 0.224, 0.225)

INPUT_NAME = "pixels"
PREPROCESS_NAME = "preprocess"


@functools.cache
def scale_pixels_class() -> Any:
    """The Keras layer class ``ScalePixels(value_range)``, registered as ``tlkeras>ScalePixels``.

    It takes float32 RGB pixels ``[N, H, W, 3]`` in 0..255 and gives what the ``preprocess_input`` of the
    application gives. Made on first use, because the class needs Keras to be imported; call this before
    loading a saved model that contains the layer.
    """
    import keras

    @keras.saving.register_keras_serializable(package="tlkeras")
    class ScalePixels(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
        """Scale RGB pixels in 0..255 to the value range "caffe", "tf" or "torch"."""

        def __init__(self, value_range: str, **options: Any) -> None:
            super().__init__(**options)
            if value_range not in (CAFFE, TF, TORCH):
                raise ConfigError("value_range must be 'caffe', 'tf' or 'torch'", received=f"'{value_range}'")
            self.value_range = value_range

        def call(self, pixels: Any) -> Any:
            if self.value_range == TF:
                return pixels / 127.5 - 1.0
            if self.value_range == TORCH:
                return (pixels / 255.0 - self._constant(_RGB_MEAN)) / self._constant(_RGB_STD)
            # Slices put together again: every converter knows them, unlike a negative stride.
            bgr = keras.ops.concatenate([pixels[..., i : i + 1] for i in (2, 1, 0)], axis=-1)
            return bgr - self._constant(_BGR_MEAN_255)

        def _constant(self, values: tuple[float, ...]) -> Any:
            return keras.ops.convert_to_tensor(np.asarray(values), dtype=self.compute_dtype)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "value_range": self.value_range}

    return ScalePixels


def build(
    backbone: str | Backbone,
    weights: str | os.PathLike[str] = PRETRAINED,
    *,
    size_px: int | None = None,
    top: bool = False,
    progress: Progress | None = None,
) -> keras.Model:
    """The network of a backbone, from pixels.

    Input: float32 ``[N, S, S, 3]`` RGB in 0..255, called "pixels", with S = ``size_px`` (the backbone's own
    by default). Output: float32 features ``[N, feature_size]``, the global average of the last feature
    maps, or with ``top`` the ImageNet logits ``[N, 1000]``, without softmax. The keras.applications model
    stays one nested model, see :func:`application`.

    ``weights`` is "pretrained", "imagenet", "none" (random, drawn under Keras' global seed) or a ``.weights.h5`` or
    legacy ``.h5`` file, of the application alone or of a model that this function built; see
    ``tlkeras.backbones.resolve``. ``progress`` is called with (bytes so far, bytes in all) if the weights must be
    downloaded.

    Raises:
        ConfigError: an unknown backbone or a size that it does not take.
        WeightsError: weights that are missing, damaged, unsafe or of another network.
    """
    if isinstance(backbone, str):
        backbone = get(backbone)
    side = _checked_size(backbone, size_px, top)
    path = resolve(backbone, weights, top, progress)  # before TensorFlow is imported: fails at once

    import keras

    if keras.config.image_data_format() != "channels_last":
        raise ConfigError(
            "Keras must be set to channels_last images",
            received=keras.config.image_data_format(),
            next_step="Change image_data_format in keras.json.",
        )
    output = {"classifier_activation": None} if top else {"pooling": "avg"}
    # weights=None always: with "imagenet", Keras deletes a local file whose hash differs.
    network = constructor_of(backbone)(
        weights=None, include_top=top, input_shape=(side, side, 3), **output, **dict(backbone.arguments)
    )
    pixels = keras.Input((side, side, 3), dtype="float32", name=INPUT_NAME)
    inside = pixels
    if backbone.value_range != BUILT_IN:
        layer = scale_pixels_class()(backbone.value_range, dtype="float32", name=PREPROCESS_NAME)
        inside = layer(pixels)
    model = keras.Model(pixels, network(inside), name=backbone.name)
    if path is not None:
        if path.suffix != ".h5":
            path = _copied(backbone, path)
        _refuse_links(path)
        _load(model, path, f"{backbone.name} {'with' if top else 'without'} its ImageNet top")
        if backbone.family == "EfficientNet":
            _square_published_deviations(network)
        file = backbone.weights_top if top else backbone.weights
        if weights in (PRETRAINED, IMAGENET) and file is not None and file.tensors is not None:
            below_top = named(model.weights[:-2] if top else model.weights)  # without its kernel and bias
            check_tensors(file, tensors_sha256(below_top), path, backbone.name)
    return model


def constructor_of(backbone: Backbone) -> Callable[..., Any]:
    """The function that builds the network of a row, with the keyword arguments of keras.applications'."""
    module, _, name = backbone.constructor.rpartition(".")
    return getattr(importlib.import_module(module), name)


def application(model: keras.Model) -> keras.Model:
    """The keras.applications model inside a model from :func:`build`, or inside a classifier built upon one.

    Raises:
        ConfigError: there is no such model inside.
    """
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            starts_with_pixels = layer.layers and layer.layers[0].name == INPUT_NAME
            return application(layer) if starts_with_pixels else layer
    raise ConfigError("the model must contain the network of a backbone", received=f"'{model.name}'")


def random_twin(backbone: str, pixels: np.ndarray, *, seed: int = 0) -> keras.Model:
    """The network of ``backbone`` with random weights, as ``build`` gives it, that lets images through.

    ``pixels``: float32 ``[n, S, S, 3]`` in 0..255, photos of the data in question. Batch normalisation takes its
    statistics from them, with a shift that lets most of the signal pass the ReLU behind it: with what it is drawn
    with, the signal of a deep network shrinks to rounding, and without the shift the network is chaotic (Yang et
    al. 2019). The twin would then be worse for a reason that has nothing to do with learning. Keras' global random
    state is set from ``seed``.

    Raises:
        ConfigError: an unknown backbone or a size that it does not take.
    """
    import keras

    keras.utils.set_random_seed(seed)
    network = build(backbone, NONE, size_px=pixels.shape[1])
    normalisations = [
        layer for layer in application(network).layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    kept = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
        layer.beta.assign(layer.beta + 1.0)
    if normalisations:
        network(pixels, training=True)
    for layer, momentum in zip(normalisations, kept, strict=True):
        layer.momentum = momentum
    network.trainable = False
    return network


def _checked_size(backbone: Backbone, size_px: int | None, top: bool) -> int:
    if size_px is None:
        return backbone.size_px
    if size_px < backbone.min_size_px:
        raise ConfigError(f"{backbone.name} takes at least {backbone.min_size_px} px", received=size_px)
    # VGG's top flattens the feature maps, so that its weights fit one size only.
    if top and backbone.family == "VGG" and size_px != backbone.size_px:
        raise ConfigError(f"{backbone.name} with its ImageNet top takes {backbone.size_px} px only", received=size_px)
    return size_px


def _copied(backbone: Backbone, published: Path) -> Path:
    """Keep a package's file of weights in Keras' format in the cache, with the top; returns the copy.

    Raises: WeightsError for a file that is anything else; StorageError.
    """
    side, copy = backbone.size_px, cached_copy(backbone.weights)
    state = (
        random.getstate()
    )  # the first build, which draws one network more, must not end in other draws than later ones
    network = constructor_of(backbone)(include_top=True, input_shape=(side, side, 3), **dict(backbone.arguments))
    random.setstate(state)
    load_published(network, published)
    with disk_errors(copy), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / copy.name
        network.save_weights(file)
        write_bytes(copy, file.read_bytes())
    return copy


def _load(model: keras.Model, path: Path, what: str) -> None:
    """Load a file of the application alone, or one that was saved from the whole model."""
    try:
        target = model if _is_of_whole_model(path) else application(model)
        with warnings.catch_warnings():
            # Keras only warns where a part of the network keeps its random weights.
            warnings.simplefilter("error", UserWarning)
            target.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, UserWarning) as error:
        raise WeightsError(
            f"the weights file must fit {what}",
            received=f"{path} ({' '.join(str(error).split())[:160]})",
            next_step="Choose the file or the backbone that belongs to it; delete a damaged ImageNet file "
            "to download it again.",
        ) from error


def _is_of_whole_model(path: Path) -> bool:
    """Whether the file was saved from a model of :func:`build`, the application nested in it."""
    import h5py

    with h5py.File(path, "r") as file:
        if "layers" in file:  # .weights.h5: a group for each layer, called after the class
            return "functional" in file["layers"]
        legacy = file.get("model_weights", file)
        return INPUT_NAME in [_text(name) for name in legacy.attrs.get("layer_names", ())]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _refuse_links(path: Path) -> None:
    """Refuse an HDF5 file that reaches outside itself: it would read files of this machine (CVE-2026-1669)."""
    import h5py

    seen: set[int] = set()

    def visit(group: Any) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise _unsafe(path, f"the {type(link).__name__} {group.name}/{name}")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    raise _unsafe(path, f"the external data set {item.name}")
            elif (address := h5py.h5o.get_info(item.id).addr) not in seen:
                seen.add(address)  # hard links may form rings
                visit(item)

    try:
        with h5py.File(path, "r") as file:
            visit(file)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            "the weights file must be a whole HDF5 file",
            received=f"{path} ({str(error)[:160]})",
            next_step="Delete it to download it again, or copy it anew.",
        ) from error


def _unsafe(path: Path, what: str) -> WeightsError:
    return WeightsError("a weights file must hold its data itself, without links", received=f"{path} with {what}")


def _square_published_deviations(network: keras.Model) -> None:
    """Give EfficientNet's first layer variances where the published files hold standard deviations.

    Keras makes up for that error by one more layer, but only under weights="imagenet" (tensorflow issue
    49930). Squaring the three numbers gives the same features in one architecture; files that we saved
    hold the squares already.
    """
    layer = next(layer for layer in network.layers if type(layer).__name__ == "Normalization")
    std = np.asarray(_RGB_STD, np.float32)
    if np.allclose(np.ravel(layer.adapt_variance), std, rtol=1e-3):
        layer.adapt_variance.assign(np.reshape(std**2, layer.adapt_variance.shape))
        layer.finalize_state()
