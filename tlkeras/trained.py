"""A trained classifier: the network, its class names and its temperature, and how it is saved and loaded.

Saved are ``classifier.json`` (plain values) and ``weights.safetensors`` (plain arrays). Loading checks the
hashes, the whole description and the arrays' header, and rebuilds the network from our own configuration: a stranger's
file is never run, only read, and nothing is built that its arrays would not fill.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import ClassifierError, FormatError, StorageError, TlkerasError
from tlkeras.heads.config import HeadConfig
from tlkeras.heads.logits import softmax
from tlkeras.images.resize import check_fit
from tlkeras.predictor import Predictor
from tlkeras.storage import parse_json, read_json, sha256_of, staged_folder, write_json

FORMAT_VERSION = 2
CONFIG_FILE = "classifier.json"
WEIGHTS_FILE = "weights.safetensors"
# What a description must hold; a hash of itself is missing from those that were written before there was one.
_SCHEMA = {
    "format_version": int,
    "backbone": str,
    "size_px": int,
    "fit": str,
    "mirror": bool,
    "head": {"kind": str, "units": [int], "dropout": float, "batch_norm": bool},
    "class_names": [str],
    "temperature": float,
    "backbone_sha256": str,
    "sha256": {WEIGHTS_FILE: str},
}
_MOST_BYTES = 32 * 1024 * 1024
_TEMPERATURES = (1e-3, 1e3)
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
            described["sha256"][CONFIG_FILE] = _hash_of(described)
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
        if not weights.is_file() or sha256_of(weights) != described["sha256"][WEIGHTS_FILE]:
            raise ClassifierError(
                f"'{weights}' is not the file that was saved (its SHA-256 differs from {CONFIG_FILE})",
                next_step="Copy the folder again, or train again.",
            )
        if described["sha256"].get(CONFIG_FILE, _hash_of(described)) != _hash_of(described):
            raise ClassifierError(
                f"'{folder / CONFIG_FILE}' was changed since it was saved (its SHA-256 differs from the one in it)",
                next_step="Copy the folder again, or train again.",
            )
        _check_header(weights, config)
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
            raise _misfit(weights)
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
        # Through JSON once more: values that are no JSON are refused as those of a file would be.
        parse_json(json.dumps(described), _SCHEMA, what="it")
        names = tuple(described["class_names"])
        twice = [name for name, count in Counter(names).items() if count > 1]
        if len(names) < 2 or twice or "" in names:
            raise ValueError(f"class_names must be two or more, different and not empty; {(twice or names)[:3]!r}")
        temperature = float(described["temperature"])
        if not _TEMPERATURES[0] <= temperature <= _TEMPERATURES[1]:
            raise ValueError(f"temperature {temperature}")
        check_fit(described["fit"], described["size_px"])
        return ClassifierConfig(
            backbone=backbones.get(described["backbone"]).name,
            size_px=described["size_px"],
            fit=described["fit"],
            mirror=described["mirror"],
            head=HeadConfig(**described["head"]),
            class_names=names,
            temperature=temperature,
            backbone_sha256=described["backbone_sha256"],
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
        return read_json(folder / CONFIG_FILE, most_bytes=_MOST_BYTES)
    except (OSError, FormatError) as error:
        raise ClassifierError(f"'{folder / CONFIG_FILE}' cannot be read ({error})") from None


def _hash_of(described: dict[str, Any]) -> str:
    """SHA-256 of a description but for this hash itself."""
    hashes = {name: hash_ for name, hash_ in described["sha256"].items() if name != CONFIG_FILE}
    text = json.dumps({**described, "sha256": hashes}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_header(weights: Path, config: ClassifierConfig) -> None:
    """Hold the head that a description asks for against the arrays that are there, before it is built.

    Raises: ClassifierError when they do not fit, or the header says more than the file holds.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = weights.stat().st_size - 8 - length
        header = file.read(min(length, _MOST_BYTES))
    try:
        arrays = parse_json(header, what=f"the header of '{weights}'", most_bytes=_MOST_BYTES)
        arrays.pop("__metadata__", None)
        schema = {name: {"shape": [int], "data_offsets": [int]} for name in arrays}
        parse_json(header, schema, what=f"the header of '{weights}'")
    except FormatError as error:
        raise ClassifierError(str(error)) from None
    shapes = [tuple(array["shape"]) for array in arrays.values()]
    units = () if config.head.kind == "linear" else config.head.units
    outputs = (*units, len(config.class_names))
    wanted = [*itertools.pairwise(outputs), *((width,) for width in outputs)]
    first = any(len(shape) == 2 and shape[1] == outputs[0] for shape in shapes)
    held = sum(max(0, math.prod(shape)) for shape in shapes)
    if not first or not set(wanted) <= set(shapes) or held > size:
        raise _misfit(weights)


def _misfit(weights: Path) -> ClassifierError:
    return ClassifierError(f"'{weights}' does not fit the network that {CONFIG_FILE} describes")


def _named(network: Any) -> list[tuple[str, Any]]:
    # Keras numbers layers per process, and variables without a name of their own, so a variable is known by its place.
    return [(f"{index:04d}.{_unnumbered(variable.name)}", variable) for index, variable in enumerate(network.weights)]


def _unnumbered(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
