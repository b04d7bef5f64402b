"""Compare the table of backbones with the installed Keras, or write tlkeras/backbones/imagenet_weights.json anew.

    python tools/backbone_table.py            # says which files differ; ends with 1 if any does
    python tools/backbone_table.py --write    # the data file, from what the installed Keras asks for
    python tools/backbone_table.py --pin mobilenet_v2    # also the hash over the tensors of a file that is at hand

Nothing is downloaded: Keras is asked for ImageNet weights, and its download function only takes note. Tensors are
pinned for files that Keras pins no hash for; what was pinned is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.resources
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tlkeras.backbones.table import BACKBONES, WEIGHTS_DATA, Backbone, WeightsFile


class _Asked(Exception):  # noqa: N818 - it carries an answer, it is no error
    """Keras asked for this file."""

    def __init__(self, file: WeightsFile) -> None:
        super().__init__(file.file_name)
        self.file = file


class _Sketch:
    """Stands for every layer and every tensor while an application draws its graph, so that this takes no time."""

    shape = (None, 32, 32, 64)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> _Sketch:
        return self

    def __getitem__(self, key: Any) -> _Sketch:
        return self

    def __add__(self, other: Any) -> _Sketch:
        return self

    __radd__ = __mul__ = __rmul__ = __sub__ = __truediv__ = __add__


def _take_note(fname: str, origin: str, *args: Any, file_hash: str | None = None, **kwargs: Any) -> str:
    raise _Asked(WeightsFile(fname, origin, file_hash))


@contextlib.contextmanager
def sketched(module: Any) -> Iterator[None]:
    """Within it, the keras.applications module draws sketches instead of building layers."""
    import keras

    names = [
        name
        for name, value in vars(module).items()
        if name in ("layers", "ops") or (isinstance(value, type) and issubclass(value, keras.layers.Layer))
    ]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(module, name, _Sketch()))
        yield


def asked_for(backbone: Backbone, *, top: bool) -> WeightsFile:
    """The file of ImageNet weights that the installed Keras would download for this backbone."""
    from keras.src.utils import file_utils

    from tlkeras.backbones.network import constructor_of

    constructor = constructor_of(backbone)
    # ResNet V2's constructors live in another module than the code that builds them.
    modules = {sys.modules[constructor.__module__], sys.modules["keras.src.applications.resnet"]}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(file_utils, "get_file", _take_note))
        for module in modules:
            stack.enter_context(sketched(module))
        try:
            constructor(
                weights="imagenet",
                include_top=top,
                input_shape=(backbone.size_px, backbone.size_px, 3),
                **dict(backbone.arguments),
            )
        except _Asked as answer:
            return answer.file
    raise RuntimeError(f"{backbone.constructor} asked for no weights")


def published() -> list[Backbone]:
    """The backbones whose weights Keras would download; those of the others come with packages."""
    return [backbone for backbone in BACKBONES.values() if backbone.weights.url]


def listed(pins: dict[str, str]) -> dict[str, dict[str, dict[str, str | None]]]:
    """The content of the data file, as the installed Keras would have it; ``pins``: new hashes over tensors."""
    rows: dict[str, dict[str, dict[str, str | None]]] = {}
    for backbone in BACKBONES.values():
        if backbone.embedded:
            continue
        if backbone.weights.package:  # Keras knows nothing of it: the row stays
            rows[backbone.name] = {"weights": dataclasses.asdict(backbone.weights)}
            continue
        rows[backbone.name] = files = {}
        for field, top in (("weights", False), ("weights_top", True)):
            kept = getattr(backbone, field).tensors
            file = dataclasses.replace(asked_for(backbone, top=top), tensors=pins.get(backbone.name, kept))
            files[field] = dataclasses.asdict(file)
            del files[field]["package"]
            if file.tensors is None or file.hash is not None:
                del files[field]["tensors"]
    return rows


def tensors_at_hand(name: str) -> str:
    """The hash over the tensors of a backbone's file without the top, which must be at hand."""
    from tlkeras import backbones

    return backbones.weights_sha256(backbones.build(name, "imagenet"))


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the data file")
    parser.add_argument("--pin", nargs="+", default=[], metavar="BACKBONE", help="write it with these tensors pinned")
    asked = parser.parse_args()
    if asked.write or asked.pin:
        text = json.dumps(listed({name: tensors_at_hand(name) for name in asked.pin}), indent=1) + "\n"
        Path(str(importlib.resources.files("tlkeras.backbones") / WEIGHTS_DATA)).write_text(text)
        return 0
    wrong = 0
    for backbone in published():
        for top, ours in ((False, backbone.weights), (True, backbone.weights_top)):
            theirs = asked_for(backbone, top=top)
            if theirs != dataclasses.replace(ours, tensors=None):
                wrong += 1
                print(f"{backbone.name}: the table has {ours}, Keras asks for {theirs}")
    print(f"{len(published())} backbones, {wrong} files differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
