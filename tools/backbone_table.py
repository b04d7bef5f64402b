"""Compare the table of backbones with the installed Keras, or print tlkeras/backbones/hashes.py anew.

    python tools/backbone_table.py            # says which rows differ; ends with 1 if any does
    python tools/backbone_table.py --print    # the module text, from what the installed Keras asks for;
                                              # `ruff format` brings it into shape

Nothing is downloaded: Keras is asked for ImageNet weights, and its download function only takes note.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

from tlkeras.backbones.table import BACKBONES, Backbone, WeightsFile

HEADER = '''"""Names, addresses and hashes of the ImageNet weights, as Keras {version} asks for them.

Written by ``tools/backbone_table.py --print``; not edited by hand.
"""

from __future__ import annotations

# (address of the folder, ending of the files without the top, backbone: (top file without .h5,
# hash Keras pins without the top, and with it))
FOLDERS: tuple[tuple[str, str, dict[str, tuple[str, str | None, str | None]]], ...] = ('''


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
    import keras
    from keras.src.utils import file_utils

    constructor = getattr(keras.applications, backbone.constructor)
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
    """The backbones whose weights Keras would download; the others come with the package."""
    return [backbone for backbone in BACKBONES.values() if not backbone.embedded]


def hashes_module() -> str:
    """The text of tlkeras/backbones/hashes.py, as the installed Keras would have it."""
    import keras

    folders: dict[tuple[str, str], list[str]] = {}
    renamed: dict[str, str] = {}
    for backbone in published():
        files = [asked_for(backbone, top=top) for top in (False, True)]
        folder = files[0].url.rpartition("/")[0] + "/"
        stem = files[1].file_name.removesuffix(".h5")
        entry = repr((stem, files[0].hash, files[1].hash))
        rows = folders.setdefault((folder, files[0].file_name.removeprefix(stem)), [])
        rows.append(f"            {backbone.name!r}: {entry},")
        renamed |= {f.file_name: f.url.removeprefix(folder) for f in files if not f.url.endswith(f.file_name)}
    lines = [HEADER.format(version=keras.__version__)]
    for (folder, ending), rows in folders.items():
        lines += ["    (", f"        {folder!r},", f"        {ending!r},", "        {", *rows, "        },", "    ),"]
    lines += [")", "", "# Files that the server calls otherwise than the local folder does.", "REMOTE_NAMES = {"]
    lines += [f"    {local!r}: {remote!r}," for local, remote in renamed.items()]
    return "\n".join([*lines, "}", ""])


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--print", action="store_true", help="print tlkeras/backbones/hashes.py")
    if parser.parse_args().print:
        sys.stdout.write(hashes_module())
        return 0
    wrong = 0
    for backbone in published():
        for top, ours in ((False, backbone.weights), (True, backbone.weights_top)):
            theirs = asked_for(backbone, top=top)
            if theirs != ours:
                wrong += 1
                print(f"{backbone.name}: the table has {ours}, Keras asks for {theirs}")
    print(f"{len(published())} backbones, {wrong} files differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
