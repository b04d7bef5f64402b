"""A trained classifier: the network, its class names and its temperature, and how it is saved and loaded.

Saved are ``classifier.json`` (plain values) and ``weights.safetensors`` (plain arrays). Loading checks the
hash and rebuilds the network from our own configuration, so a stranger's file is never run, only read.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import ClassifierError, ImageError, StorageError, TlkerasError
from tlkeras.heads.config import HeadConfig
from tlkeras.heads.logits import softmax
from tlkeras.images.resize import check_fit
from tlkeras.storage import sha256_of, staged_folder, write_json

FORMAT_VERSION = 2
CONFIG_FILE = "classifier.json"
WEIGHTS_FILE = "weights.safetensors"
VERSIONED_PACKAGES = ("tlkeras", "tensorflow", "keras", "numpy", "pillow", "onnxruntime", "openvino")


@dataclass(frozen=True)
class ClassifierConfig:
    """All that is needed, with the weights, to rebuild a classifier; plain values only.

    size_px, fit: how images become ``[size_px, size_px, 3]`` (see ``tlkeras.images.resize``).
    mirror: whether features are averaged with those of the image flipped left to right.
    temperature: probabilities are ``softmax(logits / temperature)``.
    backbone_sha256: hash of the frozen backbone's weights, by which stored features are found.
    """

    backbone: str
    size_px: int
    fit: str
    mirror: bool
    head: HeadConfig
    class_names: tuple[str, ...]
    temperature: float
    backbone_sha256: str

    @property
    def views(self) -> tuple[str, ...]:
        """The views of an image whose features are averaged."""
        return ("plain", "mirrored") if self.mirror else ("plain",)


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

    def predict_batches(
        self, images: Sequence[Any], *, batch_size: int = 32, failed: Callable[[int, ImageError], None] | None = None
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Answer batch by batch: ``(indices, probabilities [n, K])`` of images (see ``fitted`` for what those may be).

        An image that cannot be decoded is handed to ``failed`` with its index.

        Raises: ImageError, naming the image, when ``failed`` is not given.
        """

        def load(index: int) -> np.ndarray | ImageError:
            try:
                return self.fitted(images[index])
            except ImageError as error:
                return error

        with ThreadPoolExecutor(4) as pool:
            for start in range(0, len(images), batch_size):
                indices = range(start, min(start + batch_size, len(images)))
                rows: list[int] = []
                squares: list[np.ndarray] = []
                for index, loaded in zip(indices, pool.map(load, indices), strict=True):
                    if not isinstance(loaded, ImageError):
                        rows.append(index)
                        squares.append(loaded)
                    elif failed is not None:
                        failed(index, loaded)
                    else:
                        raise loaded.of(images[index], index)
                if rows:
                    yield rows, self.probabilities(self.logits(np.stack(squares)))

    def predict(self, images: Sequence[Any], *, batch_size: int = 32) -> np.ndarray:
        """Calibrated probabilities float32 ``[N, K]`` of images (see ``fitted`` for what those may be).

        Raises: ImageError, naming the image, for one that cannot be decoded.
        """
        probabilities = np.empty((len(images), len(self.class_names)), np.float32)
        for rows, answers in self.predict_batches(images, batch_size=batch_size):
            probabilities[rows] = answers
        return probabilities

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
        described = _read_description(folder)
        config = config_from_json(described, folder)
        weights = folder / WEIGHTS_FILE
        expected = described.get("sha256", {}).get(WEIGHTS_FILE)
        if not weights.is_file() or sha256_of(weights) != expected:
            raise ClassifierError(
                f"'{weights}' is not the file that was saved (its SHA-256 differs from {CONFIG_FILE})",
                next_step="Copy the folder again, or train again.",
            )
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
        if set(arrays) != set(variables) or any(arrays[n].shape != tuple(v.shape) for n, v in variables.items()):
            raise ClassifierError(f"'{weights}' does not fit the network that {CONFIG_FILE} describes")
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


def features_of(backbone: Any, pixels: Any, mirror: bool) -> Any:
    """Features ``[N, D]`` of pixels ``[N, S, S, 3]``, Keras or TensorFlow tensors, as the head takes them.

    ``mirror``: averaged with the features of the pixels flipped left to right.
    """
    import keras

    features = backbone(pixels)
    if mirror:
        features = (features + backbone(keras.ops.flip(pixels, axis=2))) / 2
    return features


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


def config_from_json(described: dict[str, Any], folder: Path) -> ClassifierConfig:
    """Check a description read from a file, field by field.

    Raises: ClassifierError that names what is wrong.
    """
    if described.get("format") != "tlkeras-classifier":
        raise ClassifierError(f"'{folder / CONFIG_FILE}' does not describe a tlkeras classifier")
    version = described.get("format_version")
    if version != FORMAT_VERSION:
        raise ClassifierError(
            f"'{folder}' was saved in format {version}, this version reads {FORMAT_VERSION}",
            next_step="Update tlkeras, or train again.",
        )
    from tlkeras import backbones

    try:
        names = tuple(described["class_names"])
        if len(names) < 2 or not all(isinstance(name, str) for name in names):
            raise ValueError(f"class_names {names!r}")
        temperature = float(described["temperature"])
        if not 0 < temperature < 1e3:
            raise ValueError(f"temperature {temperature}")
        check_fit(described["fit"], described["size_px"])
        head = dict(described["head"])
        return ClassifierConfig(
            backbone=backbones.get(described["backbone"]).name,
            size_px=int(described["size_px"]),
            fit=described["fit"],
            mirror=bool(described["mirror"]),
            head=HeadConfig(**{**head, "units": tuple(head["units"])}),
            class_names=names,
            temperature=temperature,
            backbone_sha256=str(described["backbone_sha256"]),
        )
    except (KeyError, TypeError, ValueError, TlkerasError) as error:
        raise ClassifierError(f"'{folder / CONFIG_FILE}' has a field that cannot be used ({error})") from None


def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers, as far as they are installed."""
    found = {}
    for package in VERSIONED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        described = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ClassifierError(f"'{folder / CONFIG_FILE}' cannot be read ({error})") from None
    if not isinstance(described, dict):
        raise ClassifierError(f"'{folder / CONFIG_FILE}' does not describe a tlkeras classifier")
    return described


def _named(network: Any) -> list[tuple[str, Any]]:
    # Keras numbers layers per process, and variables without a name of their own, so a variable is known by its place.
    return [(f"{index:04d}.{_unnumbered(variable.name)}", variable) for index, variable in enumerate(network.weights)]


def _unnumbered(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
