"""A frozen backbone by the hash of its weights: they lie in one file, and Keras builds the network only when asked.

The file, ``backbone.safetensors`` in a saved classifier, is kept once in the cache under that hash, which the tensors
in it prove; classifiers link to it. Which published or own file holds which weights is noted there too, so that they
are known without Keras.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tlkeras.backbones.table import Backbone, get
from tlkeras.backbones.tensors import Arrays, assign, named, read_arrays, tensors_sha256, weights_sha256, write_arrays
from tlkeras.backbones.weights import IMAGENET, NONE, PRETRAINED, check_tensors, file_hash, resolve
from tlkeras.errors import FormatError, StorageError, WeightsError
from tlkeras.json_csv import read_json
from tlkeras.storage import cache_root, disk_errors, write_json


class Frozen:
    """A frozen backbone: its row of the table, its input's side, and its weights.

    sha256: of the weights, see ``tensors_sha256``. One of the others says where they are. build: makes the Keras
    network. file: as ``write_arrays`` makes it. held: in memory.
    """

    def __init__(
        self,
        backbone: str,
        size_px: int,
        sha256: str,
        *,
        build: Callable[[], Any] | None = None,
        file: Path | None = None,
        held: Arrays | None = None,
    ) -> None:
        self.row: Backbone = get(backbone)
        self.size_px = size_px
        self.sha256 = sha256
        self._build, self._file, self._held = build or self._built, file, held
        self._network: Any = None
        self._lock = threading.Lock()

    @property
    def feature_size(self) -> int:
        """How many numbers a feature vector has."""
        return self.row.feature_size

    @property
    def network(self) -> Any:
        """The Keras network, pixels float32 ``[N, S, S, 3]`` in 0..255 → features ``[N, D]``, frozen; built once."""
        import tensorflow as tf

        with self._lock:
            if self._network is None:
                with tf.init_scope():  # what is built while a graph is traced would keep its first, random weights
                    self._network = self._build()
            self._network.trainable = False
            return self._network

    def _built(self) -> Any:
        from tlkeras.backbones.network import build

        network = build(self.row, NONE, size_px=self.size_px)
        assign(network, self.arrays)
        return network

    @property
    def arrays(self) -> Arrays:
        """The weights; see ``tlkeras.backbones.tensors``.

        Raises: WeightsError when the file is not what it was; OSError.
        """
        if self._held is not None:
            return self._held
        if self._file is None:
            return named(self.network.weights)
        try:
            return _proved(self._file, self.sha256)
        except FileNotFoundError:
            # A run that was moved meanwhile.
            return _proved(_kept_path(self.sha256), self.sha256)

    def file(self) -> Path:
        """The file of the weights: the one that they come from, or that is kept in the cache from now on.

        Raises: StorageError.
        """
        if self._file is None or not self._file.exists():
            self._file = kept(self.sha256)
        if self._file is None:
            write_arrays(_kept_path(self.sha256), self.arrays)
            self._file = _kept_path(self.sha256)
        return self._file


def frozen(backbone: str, weights: str | os.PathLike[str] = PRETRAINED, size_px: int | None = None) -> Frozen:
    """A backbone with the weights that ``build`` takes, without Keras where they were seen before.

    Random weights are drawn under Keras' global seed.

    Raises: as ``build``.
    """
    from tlkeras.backbones.network import build

    row = get(backbone)
    side = size_px or row.size_px
    path = resolve(row, weights, top=False)
    if path is None:
        return of_network(row.name, build(row, weights, size_px=side))
    seen = hashlib.sha256(f"{row.name} {file_hash(path)}".encode()).hexdigest()
    note = cache_root() / "backbones" / f"{seen[:32]}.json"
    with contextlib.suppress(OSError, FormatError):
        sha256 = read_json(note, {"weights_sha256": str})["weights_sha256"]
        if (file := kept(sha256)) is not None:
            if weights in (PRETRAINED, IMAGENET):
                check_tensors(row.weights, sha256, path, row.name)
            return Frozen(row.name, side, sha256, file=file)
    made = of_network(row.name, build(row, weights, size_px=side))
    # A cache that cannot be written is no reason to stop.
    with contextlib.suppress(StorageError):
        made.file()
        write_json(note, {"format_version": 1, "backbone": row.name, "weights_sha256": made.sha256})
    return made


def of_network(backbone: str, network: Any) -> Frozen:
    """A Keras network of the backbone of that name, with the weights that it has now."""
    return Frozen(backbone, int(network.input_shape[1]), weights_sha256(network), build=lambda: network)


def kept(sha256: str) -> Path | None:
    """The file of these weights in the cache, if it is there and whole."""
    path = _kept_path(sha256)
    try:
        _proved(path, sha256)
    except FileNotFoundError:
        return None
    except (OSError, WeightsError) as error:
        warnings.warn(f"weights in the cache are damaged and are written again: {error}", stacklevel=2)
        return None
    return path


def link(file: Path, to: Path) -> None:
    """Make ``to`` the same file by a hard link, or a copy where that cannot be. Raises: StorageError."""
    try:
        os.link(file, to)
    # Another disk, a file system without links, too many of them, or a file of somebody else's.
    except OSError:
        with disk_errors(to):
            shutil.copyfile(file, to)


def _kept_path(sha256: str) -> Path:
    return cache_root() / "backbones" / f"{sha256}.safetensors"


def _proved(path: Path, sha256: str) -> Arrays:
    arrays = read_arrays(path)
    if tensors_sha256(arrays) != sha256:
        raise WeightsError("a file of weights must hold what it is called after", received=path)
    return arrays
