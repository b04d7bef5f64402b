"""The description of a saved classifier, and all that is checked of it before anything is built."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkeras.errors import ClassifierError, FormatError, TlkerasError
from tlkeras.heads.config import HeadConfig
from tlkeras.images.resize import check_fit
from tlkeras.json_csv import parse_json, read_json

FORMAT_VERSION = 3
CONFIG_FILE = "classifier.json"
BACKBONE_FILE, HEAD_FILE = "backbone.safetensors", "head.safetensors"
# The files of weights by format; all that 0.1 wrote is of version 2, with all weights in one file.
WEIGHTS_FILES = {2: ("weights.safetensors",), 3: (BACKBONE_FILE, HEAD_FILE)}
# Those of which the hash is in the description; a backbone's tensors have theirs in ``backbone_sha256``.
HASHED_FILES = {2: WEIGHTS_FILES[2], 3: (HEAD_FILE,)}
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
}
_MOST_BYTES = 32 * 1024 * 1024
_TEMPERATURES = (1e-3, 1e3)


@dataclass(frozen=True)
class ClassifierConfig:
    """All that is needed, with the weights, to rebuild a classifier; plain values only.

    size_px, fit: how images become ``[size_px, size_px, 3]`` (see ``tlkeras.images.resize``).
    mirror: whether features are averaged with those of the image flipped left to right.
    temperature: probabilities are ``softmax(logits / temperature)``.
    backbone_sha256: hash of the frozen backbone's weights, by which stored features are found.
    numbered: whether the class names are whole numbers that Python gets back as such.
    """

    backbone: str
    size_px: int
    fit: str
    mirror: bool
    head: HeadConfig
    class_names: tuple[str, ...]
    temperature: float
    backbone_sha256: str
    numbered: bool = False

    @property
    def views(self) -> tuple[str, ...]:
        """The views of an image whose features are averaged."""
        return ("plain", "mirrored") if self.mirror else ("plain",)


def config_from_json(described: dict[str, Any], folder: Path) -> ClassifierConfig:
    """Check a description read from a file, field by field.

    Raises: ClassifierError that names what is wrong.
    """
    if described.get("format") != "tlkeras-classifier":
        raise ClassifierError(f"'{folder / CONFIG_FILE}' does not describe a tlkeras classifier")
    version = described.get("format_version")
    if version not in list(WEIGHTS_FILES):
        raise ClassifierError(
            f"'{folder}' was saved in format {version}, this version reads {' and '.join(map(str, WEIGHTS_FILES))}",
            next_step="Update tlkeras, or train again.",
        )
    from tlkeras import backbones

    try:
        # Through JSON once more: values that are no JSON are refused as those of a file would be.
        schema = {**_SCHEMA, "sha256": dict.fromkeys(HASHED_FILES[version], str)}
        parse_json(json.dumps(described), schema, what="it")
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
            numbered=described.get("numbered") is True and all(name.lstrip("-").isdecimal() for name in names),
        )
    except (KeyError, TypeError, ValueError, TlkerasError) as error:
        raise ClassifierError(f"'{folder / CONFIG_FILE}' has a field that cannot be used ({error})") from None


def read_description(folder: Path) -> dict[str, Any]:
    """``classifier.json`` as it lies there, unchecked. Raises: ClassifierError when it cannot be read."""
    try:
        return read_json(folder / CONFIG_FILE, most_bytes=_MOST_BYTES)
    except (OSError, FormatError) as error:
        raise ClassifierError(f"'{folder / CONFIG_FILE}' cannot be read ({error})") from None


def hash_of(described: dict[str, Any]) -> str:
    """SHA-256 of a description but for this hash itself."""
    hashes = {name: hash_ for name, hash_ in described["sha256"].items() if name != CONFIG_FILE}
    text = json.dumps({**described, "sha256": hashes}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_headers(folder: Path, version: int, config: ClassifierConfig) -> None:
    """Hold the headers of the weights' files against what a description asks for, before anything is read or built.

    Raises: ClassifierError when they do not fit, or a header says more than its file holds.
    """
    from tlkeras import backbones
    from tlkeras.heads.config import head_layout

    row = backbones.get(config.backbone)
    layout = head_layout(config.head, row.feature_size, len(config.class_names))
    arrays = [array for file in WEIGHTS_FILES[version] for array in _header(folder / file).values()]
    backbone, head = arrays[: -len(layout)], arrays[-len(layout) :]
    shapes = [tuple(array["shape"]) for array in head]
    numbers = sum(math.prod(array["shape"]) for array in backbone)
    # What a network counts is a whole number.
    kinds = {array["dtype"] for array in arrays if math.prod(array["shape"]) != 1}
    if shapes != list(layout.values()) or numbers != row.parameters or kinds != {"F32"}:
        raise ClassifierError(f"the weights in '{folder}' are not those of the network that {CONFIG_FILE} describes")


def _header(weights: Path) -> dict[str, Any]:
    """What a safetensors file says of its arrays, in the order of their names."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = weights.stat().st_size - 8 - length
        header = file.read(min(length, _MOST_BYTES))
    what = f"the header of '{weights}'"
    try:
        arrays = parse_json(header, what=what, most_bytes=_MOST_BYTES)
        arrays.pop("__metadata__", None)
        array = {"dtype": str, "shape": [int], "data_offsets": [int]}
        parse_json(header, dict.fromkeys(arrays, array), what=what, most_bytes=_MOST_BYTES)
    except FormatError as error:
        raise ClassifierError(str(error)) from None
    if sum(max(0, math.prod(array["shape"])) for array in arrays.values()) > size:
        raise ClassifierError(f"{what} says more than the file holds")
    return {name: arrays[name] for name in sorted(arrays)}
