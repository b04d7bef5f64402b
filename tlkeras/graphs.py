"""A frozen backbone as an ONNX graph, kept in the cache beside what Keras answers: it is trusted without Keras.

A folder for each backbone and size, ``engines/KEY``, appears whole: ``graph.onnx``, and ``graph.json`` with the SHA-256
of that file, Keras' features of eight drawn images, and the largest difference of every runtime that was compared with
them. Another version of a runtime, or another processor, is compared with the same answers: that takes eight images.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import itertools
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tlkeras.errors import FormatError, StorageError
from tlkeras.json_csv import parse_json, read_json
from tlkeras.onnx_graph import OPSET, convert
from tlkeras.storage import cache_root, disk_errors, sha256_of, staged_folder, write_json

# Raise it whenever the same recipe would give other numbers: what was stored is then computed again.
RECIPE_VERSION = 1
FORMAT_VERSION = 1  # raise it when ``probe`` draws anything else, too
PROBES = 8
_GRAPH, _ABOUT = "graph.onnx", "graph.json"
_SCHEMA = {
    "format_version": int,
    "sha256": str,
    "features": int,
    "keras": str,
    "verified": dict,
}

Run = Callable[[np.ndarray], np.ndarray]  # float32 [n, S, S, 3] in 0..255 -> float32 [n, D]


class Network(Protocol):
    """A frozen backbone: the hash of its weights, its input's side, and Keras' model of it, built when it is asked for.

    network: pixels float32 ``[n, S, S, 3]`` in 0..255 → features float32 ``[n, D]``.
    """

    @property
    def sha256(self) -> str: ...  # noqa: D102

    @property
    def size_px(self) -> int: ...  # noqa: D102

    @property
    def network(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Graph:
    """A converted backbone: ``path`` of the ONNX file, and what is known of it (``graph.json``)."""

    path: Path
    size_px: int
    about: dict[str, Any]

    def difference(self, run: Run, runtime: str, precision: str) -> float:
        """Largest difference of a runtime from Keras on the drawn images, relative to the largest feature there.

        ``runtime``: its module. Computed once for each version of it and each processor.
        """
        name = f"{runtime} {importlib.import_module(runtime).__version__} {precision} on {processor()}"
        known = self.about["verified"].get(name)
        if isinstance(known, float):
            return known
        features = np.frombuffer(base64.b64decode(self.about["keras"]), "<f4").reshape(PROBES, -1)
        found = relative_difference(run(probe(self.size_px)), features)
        if np.isfinite(found):
            self.about["verified"][name] = found
            # Another process may note something at the same time: what is lost is compared again.
            with contextlib.suppress(StorageError):
                write_json(self.path.with_name(_ABOUT), self.about)
        return found


def find(backbone: Network) -> Graph | None:
    """The graph that is kept of a backbone, if it is there and whole."""
    folder = _folder(backbone)
    try:
        about = read_json(folder / _ABOUT, _SCHEMA)
        if about["format_version"] == FORMAT_VERSION and sha256_of(folder / _GRAPH) == about["sha256"]:
            return Graph(folder / _GRAPH, backbone.size_px, about)
    except (OSError, FormatError):
        pass
    return None


def make(backbone: Network) -> Graph:
    """Convert a backbone, ask Keras about the drawn images, and keep both.

    Raises: ValueError when it cannot be converted; StorageError.
    """
    function = traced(backbone.network)
    model = convert(function, list(function.input_signature)).SerializeToString()
    features = np.ascontiguousarray(function(probe(backbone.size_px)).numpy(), "<f4")
    about = {
        "format_version": FORMAT_VERSION,
        "weights_sha256": backbone.sha256,
        "size_px": backbone.size_px,
        "sha256": hashlib.sha256(model).hexdigest(),
        "features": features.shape[1],
        "keras": base64.b64encode(features.tobytes()).decode(),
        "made_with": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "tf2onnx", "onnx")},
        "verified": {},
    }
    return _keep(backbone, model, about)


def pack(backbone: Network) -> tuple[bytes, bytes] | None:
    """The graph that is kept of a backbone, to be sent to another machine's ``adopt``; None where there is none."""
    graph = find(backbone)
    return None if graph is None else (graph.path.read_bytes(), graph.path.with_name(_ABOUT).read_bytes())


def adopt(backbone: Network, packed: tuple[bytes, bytes]) -> None:
    """Keep a graph that another machine has made."""
    _keep(backbone, packed[0], parse_json(packed[1], _SCHEMA, what="a graph's description"))


def _keep(backbone: Network, model: bytes, about: dict[str, Any]) -> Graph:
    folder = _folder(backbone)
    # Another process may have been faster, and may have it open.
    if (found := find(backbone)) is not None:
        return found
    with disk_errors(folder):
        # In 0.1 a graph was a file of its own, which nothing vouched for.
        folder.with_name(f"{folder.name}.onnx").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        with staged_folder(folder) as staged:
            (staged / _GRAPH).write_bytes(model)
            write_json(staged / _ABOUT, about)
    return Graph(folder / _GRAPH, backbone.size_px, about)


def _folder(backbone: Network) -> Path:
    return cache_root() / "engines" / f"{backbone.sha256[:32]}-{backbone.size_px}-r{RECIPE_VERSION}-opset{OPSET}"


@functools.lru_cache(maxsize=1)
def traced(network: Any) -> Any:
    """The network as one TensorFlow graph; tracing takes a second, and both conversion and comparison need it."""
    import tensorflow as tf

    size_px = network.input_shape[1]
    return tf.function(
        lambda pixels: network(pixels, training=False),
        input_signature=[tf.TensorSpec([None, size_px, size_px, 3], tf.float32, name="pixels")],
    )


def relative_difference(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute expected value; infinite for NaN or other shapes."""
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max() / max(float(np.abs(expected).max()), 1e-30))


def probe(size_px: int) -> np.ndarray:
    """Eight drawn images, float32 ``[8, size_px, size_px, 3]`` in 0..255, the same wherever they are drawn.

    Each adds a finer grid of random colours to those before it, half as strong: as in photos, detail is weaker than
    what is large (Field 1987).
    """
    # Raw numbers: what is made of them by NumPy's distributions may change between its versions.
    source = np.random.PCG64(0)
    places, summed, strength = np.arange(size_px), np.zeros((size_px, size_px, 3), np.float32), 0.0
    images = []
    for finer in range(PROBES):
        cells = min(2 ** (finer + 1), size_px)
        grid = (source.random_raw(cells * cells * 3) >> np.uint64(56)).astype(np.float32).reshape(cells, cells, 3)
        rows = places * cells // size_px
        summed, strength = summed + grid[rows[:, None], rows[None, :]] / 2**finer, strength + 1 / 2**finer
        images.append((summed / strength).astype(np.float32))
    return np.stack(images)


@functools.cache
def processor() -> str:
    """What this processor computes with, as text: its architecture, and on Linux a hash of its model and abilities."""
    told = platform.machine()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as file:
        # The first core stands for all; the whole list takes long where there are hundreds.
        first = itertools.takewhile(str.strip, file)
        model = "".join(line for line in first if line.startswith(("model name", "flags", "CPU part", "Features")))
        told += f" {hashlib.sha256(model.encode()).hexdigest()[:12]}"
    return told
