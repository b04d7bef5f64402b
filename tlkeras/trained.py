"""A trained classifier: the network, its class names and its temperature, and how it is saved and loaded.

Saved are ``classifier.json`` (plain values) and ``weights.safetensors`` (plain arrays). Loading checks the
hashes, the whole description and the arrays' header, and rebuilds the network from our own configuration: a stranger's
file is never run, only read, and nothing is built that its arrays would not fill.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.description import (
    CONFIG_FILE,
    FORMAT_VERSION,
    WEIGHTS_FILE,
    ClassifierConfig,
    check_header,
    config_from_json,
    hash_of,
    misfit,
    read_description,
)
from tlkeras.engines import features_of
from tlkeras.errors import ClassifierError, StorageError
from tlkeras.heads.logits import softmax
from tlkeras.predictor import Predictor
from tlkeras.storage import sha256_of, staged_folder, write_json

VERSIONED_PACKAGES = ("tlkeras", "tensorflow", "keras", "numpy", "pillow", "onnxruntime", "openvino")


class TrainedClassifier:
    """A network from pixels to logits with all that its answers need.

    ``network``: Keras model, float32 ``[N, S, S, 3]`` RGB in 0..255 → logits float32 ``[N, K]``; its layers
    ``"backbone"`` (→ features) and ``"head"`` (features → logits) can be used on their own.
    """

    def __init__(self, config: ClassifierConfig, network: Any) -> None:
        self.config = config
        self.network = network

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of logits and probabilities."""
        return self.config.class_names

    @property
    def head(self) -> Any:
        """The Keras head: features float32 ``[N, D]`` → logits ``[N, K]``."""
        return self.network.get_layer("head")

    @cached_property
    def _forward(self) -> Any:
        import tensorflow as tf

        size = self.config.size_px
        # One trace for every batch size: Keras' predict() traces anew and is slow when called in a loop.
        signature = [tf.TensorSpec([None, size, size, 3], tf.float32)]
        return tf.function(lambda pixels: self.network(pixels, training=False), input_signature=signature)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Logits float32 ``[N, K]`` of fitted pixels ``[N, S, S, 3]`` in 0..255."""
        return self._forward(np.ascontiguousarray(pixels, np.float32)).numpy()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities float32 ``[N, K]`` of logits."""
        return softmax(logits, self.config.temperature)

    def fitted(self, image: Any) -> np.ndarray:
        """One image as the network takes it: float32 ``[S, S, 3]`` in 0..255.

        ``image``: a path, the bytes of an image file, a PIL image, or an array ``[H, W]``, ``[H, W, 1]`` or
        ``[H, W, 3]`` in 0..255.

        Raises: ImageError when it cannot be decoded; ConfigError for an array of another shape or range.
        """
        from tlkeras.data.pipeline import fitted_image

        return fitted_image(image, self.config.size_px, self.config.fit)

    def predictor(self, *, engine: str = "tensorflow", images: int | None = None) -> Predictor:
        """The one predictor of this classifier; ``engine``, ``images``: see ``tlkeras.engines.Runner``."""
        return Predictor(self, engine=engine, images=images)

    @cached_property
    def _in_keras(self) -> Predictor:
        return self.predictor()

    def predict(self, images: Sequence[Any], *, batch_size: int = 32) -> np.ndarray:
        """Calibrated probabilities float32 ``[N, K]`` of images, by Keras; see ``Predictor.answers``.

        Raises: ImageError, naming the image, for one that cannot be decoded.
        """
        return self._in_keras.predict(images, batch_size=batch_size)

    def save(self, folder: str | Path) -> Path:
        """Save into a new folder, which appears whole or not at all.

        Raises: StorageError when the folder exists or the disk refuses.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        folder = Path(folder)
        with staged_folder(folder) as staged:
            # Not ascontiguousarray, which would give scalars an axis.
            arrays = {name: np.asarray(value.numpy(), order="C") for name, value in _named(self.network)}
            try:
                save_file(arrays, staged / WEIGHTS_FILE)
            except SafetensorError as error:
                raise StorageError(f"cannot write '{folder}' ({error})", next_step="Free some space.") from None
            described = {
                "format": "tlkeras-classifier",
                "format_version": FORMAT_VERSION,
                **asdict(self.config),
                "sha256": {WEIGHTS_FILE: sha256_of(staged / WEIGHTS_FILE)},
                "versions": versions(),
            }
            described["sha256"][CONFIG_FILE] = hash_of(described)
            write_json(staged / CONFIG_FILE, described)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> TrainedClassifier:
        """Load what ``save`` wrote, or the ``classifier`` folder inside a run directory.

        Raises: ClassifierError when files are missing, changed since they were saved, or do not fit.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = find(folder)
        described = read_description(folder)
        config = config_from_json(described, folder)
        weights = folder / WEIGHTS_FILE
        if not weights.is_file() or sha256_of(weights) != described["sha256"][WEIGHTS_FILE]:
            raise ClassifierError(
                f"'{weights}' is not the file that was saved (its SHA-256 differs from {CONFIG_FILE})",
                next_step="Copy the folder again, or train again.",
            )
        if described["sha256"].get(CONFIG_FILE, hash_of(described)) != hash_of(described):
            raise ClassifierError(
                f"'{folder / CONFIG_FILE}' was changed since it was saved (its SHA-256 differs from the one in it)",
                next_step="Copy the folder again, or train again.",
            )
        check_header(weights, config)
        network = build_network(config)
        try:
            arrays = load_file(weights)
        except SafetensorError as error:
            raise ClassifierError(f"'{weights}' cannot be read ({error})") from None
        variables = dict(_named(network))
        # Files written before have numbers of the process in names, and an axis in scalars.
        arrays = {_unnumbered(name): array for name, array in arrays.items()}
        for name in arrays.keys() & variables.keys():
            if variables[name].shape == () and arrays[name].shape == (1,):
                arrays[name] = arrays[name].reshape(())
        if set(arrays) != set(variables) or any(
            arrays[n].shape != tuple(v.shape) or arrays[n].dtype != v.dtype for n, v in variables.items()
        ):
            raise misfit(weights)
        if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays.values()):
            raise ClassifierError(f"'{weights}' holds numbers that are not finite", next_step="Train again.")
        for name, variable in variables.items():
            variable.assign(arrays[name])
        return cls(config, network)


def build_network(config: ClassifierConfig, backbone: Any | None = None, head: Any | None = None) -> Any:
    """The Keras model of a classifier, pixels → logits, with random weights where none are given.

    ``backbone`` and ``head``: Keras models to use instead of new ones.
    """
    import keras

    from tlkeras import backbones
    from tlkeras.heads.config import build_head

    if backbone is None:
        backbone = backbones.build(config.backbone, "none", size_px=config.size_px)
    if head is None:
        head = build_head(config.head, backbone.output_shape[-1], len(config.class_names))
    backbone.name, head.name = "backbone", "head"
    pixels = keras.Input((config.size_px, config.size_px, 3), name="pixels")
    return keras.Model(pixels, head(features_of(backbone, pixels, config.mirror)), name="classifier")


def find(folder: str | Path) -> Path:
    """The folder that holds the classifier: the one given, or ``classifier`` inside a run directory.

    Raises: ClassifierError when there is none.
    """
    for candidate in (Path(folder), Path(folder) / "classifier"):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    what = "there is no such folder" if not Path(folder).exists() else f"it has no {CONFIG_FILE}"
    raise ClassifierError(
        f"'{folder}' is not a run or a saved classifier: {what}", next_step="'tlkeras train' makes one."
    )


def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers, as far as they are installed."""
    found = {}
    for package in VERSIONED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _named(network: Any) -> list[tuple[str, Any]]:
    # Keras numbers layers per process, and variables without a name of their own, so a variable is known by its place.
    return [(f"{index:04d}.{_unnumbered(variable.name)}", variable) for index, variable in enumerate(network.weights)]


def _unnumbered(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
