"""A trained classifier: a frozen backbone, a head, class names and a temperature, and how they are saved and loaded.

Saved are ``classifier.json`` (plain values), ``backbone.safetensors`` and ``head.safetensors`` (plain arrays). The
backbone's file is shared by all classifiers on it, as far as the file system has hard links. Loading checks the hashes,
the whole description and the arrays; Keras' network is built from our own configuration when somebody asks for it: a
stranger's file is never run, only read, and nothing is built that its arrays would not fill.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.backbones.frozen import Frozen, link, of_network
from tlkeras.backbones.tensors import read_arrays, tensors_sha256, unnumbered, write_arrays
from tlkeras.description import (
    BACKBONE_FILE,
    CONFIG_FILE,
    FORMAT_VERSION,
    HASHED_FILES,
    HEAD_FILE,
    WEIGHTS_FILES,
    ClassifierConfig,
    check_headers,
    config_from_json,
    hash_of,
    read_description,
)
from tlkeras.engines import FEW, features_of
from tlkeras.errors import ClassifierError, WeightsError
from tlkeras.heads.config import build_head, head_layout
from tlkeras.heads.logits import softmax
from tlkeras.predictor import Predictor
from tlkeras.storage import sha256_of, staged_folder, write_json

VERSIONED_PACKAGES = ("tlkeras", "tensorflow", "keras", "numpy", "pillow", "onnxruntime", "openvino")


class TrainedClassifier:
    """A network from pixels to logits with all that its answers need.

    ``backbone``: pixels → features. ``head``: the weights of features → logits, in the order of
    ``tlkeras.heads.config.head_layout``.
    """

    def __init__(self, config: ClassifierConfig, backbone: Frozen, head: Sequence[np.ndarray]) -> None:
        # Stored features and graphs are found by what the weights are.
        self.config = replace(config, backbone_sha256=backbone.sha256)
        self.backbone = backbone
        self._predictors: dict[tuple[str, bool], Predictor] = {}
        self.head_weights = tuple(np.asarray(values, np.float32) for values in head)

    @classmethod
    def of_network(cls, config: ClassifierConfig, network: Any) -> TrainedClassifier:
        """The classifier that a Keras network of ``build_network`` is."""
        backbone = of_network(config.backbone, network.get_layer("backbone"))
        made = cls(config, backbone, [variable.numpy() for variable in network.get_layer("head").weights])
        made.network = network
        return made

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of logits and probabilities."""
        return self.config.class_names

    @cached_property
    def network(self) -> Any:
        """Keras model, float32 ``[N, S, S, 3]`` RGB in 0..255 → logits float32 ``[N, K]``, built on first use.

        Its layers ``"backbone"`` (→ features) and ``"head"`` (features → logits) can be used on their own.

        Raises: ClassifierError when the weights are not those of the network that is built here.
        """
        import tensorflow as tf

        try:
            backbone = self.backbone.network
        except WeightsError as error:
            raise ClassifierError(str(error)) from None
        # What is built while a graph is traced would keep its first, random weights.
        with tf.init_scope():
            head = build_head(self.config.head, self.backbone.feature_size, len(self.class_names))
            head.set_weights(self.head_weights)
            return build_network(self.config, backbone, head)

    @property
    def head(self) -> Any:
        """The Keras head: features float32 ``[N, D]`` → logits ``[N, K]``."""
        return self.network.get_layer("head")

    @cached_property
    def _forward(self) -> Any:
        import tensorflow as tf

        size, network = self.config.size_px, self.network
        # One trace for every batch size: Keras' predict() traces anew and is slow when called in a loop.
        signature = [tf.TensorSpec([None, size, size, 3], tf.float32)]
        return tf.function(lambda pixels: network(pixels, training=False), input_signature=signature)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Keras' logits float32 ``[N, K]`` of fitted pixels ``[N, S, S, 3]`` in 0..255."""
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

    def predictor(self, *, engine: str = "auto", images: int | None = None) -> Predictor:
        """The one predictor of this classifier; ``engine``, ``images``: see ``tlkeras.engines.Runner``."""
        asked = engine, images is not None and images < FEW
        if asked not in self._predictors:  # to open an engine takes longer than to answer one image
            self._predictors[asked] = Predictor(self, engine=engine, images=images)
        return self._predictors[asked]

    def predict(self, images: Sequence[Any], *, batch_size: int = 32) -> np.ndarray:
        """Calibrated probabilities float32 ``[N, K]`` of images; see ``Predictor.answers``.

        Raises: ImageError, naming the image, for one that cannot be decoded.
        """
        return self.predictor(images=len(images)).predict(images, batch_size=batch_size)

    def save(self, folder: str | Path) -> Path:
        """Save into a new folder, which appears whole or not at all.

        Raises: StorageError when the folder exists or the disk refuses.
        """
        folder = Path(folder)
        layout = head_layout(self.config.head, self.backbone.feature_size, len(self.class_names))
        with staged_folder(folder) as staged:
            link(self.backbone.file(), staged / BACKBONE_FILE)
            write_arrays(staged / HEAD_FILE, dict(zip(layout, self.head_weights, strict=True)))
            described = {
                "format": "tlkeras-classifier",
                "format_version": FORMAT_VERSION,
                **asdict(self.config),
                "sha256": {name: sha256_of(staged / name) for name in HASHED_FILES[FORMAT_VERSION]},
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
        folder = find(folder)
        described = read_description(folder)
        config = config_from_json(described, folder)
        version = described["format_version"]
        for file in (folder / name for name in WEIGHTS_FILES[version]):
            hashed = file.name in HASHED_FILES[version]
            if not file.is_file() or (hashed and sha256_of(file) != described["sha256"][file.name]):
                raise _changed(file)
        if described["sha256"].get(CONFIG_FILE, hash_of(described)) != hash_of(described):
            raise ClassifierError(
                f"'{folder / CONFIG_FILE}' was changed since it was saved (its SHA-256 differs from the one in it)",
                next_step="Copy the folder again, or train again.",
            )
        check_headers(folder, version, config)
        try:
            parts = [read_arrays(folder / name) for name in WEIGHTS_FILES[version]]
        except WeightsError as error:
            raise ClassifierError(str(error)) from None
        if version == 2:
            backbone, head = _parted(parts[0], len(head_layout(config.head, 1, len(config.class_names))))
            frozen = Frozen(config.backbone, config.size_px, tensors_sha256(backbone), held=backbone)
        else:
            if tensors_sha256(parts[0]) != config.backbone_sha256:
                raise _changed(folder / BACKBONE_FILE)
            head = list(parts[1].values())
            frozen = Frozen(config.backbone, config.size_px, config.backbone_sha256, file=folder / BACKBONE_FILE)
        if not all(np.isfinite(array).all() for part in parts for array in part.values()):
            raise ClassifierError(f"weights in '{folder}' are not finite", next_step="Train again.")
        return cls(config, frozen, head)


def _changed(file: Path) -> ClassifierError:
    return ClassifierError(
        f"'{file}' is not the file that was saved (its SHA-256 differs from {CONFIG_FILE})",
        next_step="Copy the folder again, or train again.",
    )


def _parted(arrays: dict[str, np.ndarray], last: int) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """A file of format 2: the backbone's arrays, by names without numbers of a process, and the head's, the last."""
    names = list(arrays)
    return {unnumbered(name): arrays[name] for name in names[:-last]}, [arrays[name] for name in names[-last:]]


def build_network(config: ClassifierConfig, backbone: Any | None = None, head: Any | None = None) -> Any:
    """The Keras model of a classifier, pixels → logits, with random weights where none are given.

    ``backbone`` and ``head``: Keras models to use instead of new ones.
    """
    import keras

    from tlkeras import backbones

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
