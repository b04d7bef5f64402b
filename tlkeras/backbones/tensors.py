"""The weights of a network as plain arrays: their names, their hash, their file.

Arrays are called ``0000.kernel`` and so on, in the order of the Keras network's ``weights``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import WeightsError
from tlkeras.storage import write_bytes

Arrays = Mapping[str, np.ndarray]


def named(variables: Any) -> dict[str, np.ndarray]:
    """The values of Keras variables in their order, by the names that a file holds."""
    # Keras numbers layers per process, and variables without a name of their own, so a variable is known by its place.
    # Not ascontiguousarray, which would give scalars an axis.
    return {
        f"{index:04d}.{unnumbered(variable.name)}": np.asarray(variable.numpy(), order="C")
        for index, variable in enumerate(variables)
    }


def unnumbered(name: str) -> str:
    """The name of a variable without the number that Keras gave it in this process."""
    return re.sub(r"_\d+$", "", name)


def tensors_sha256(arrays: Arrays) -> str:
    """The sha256 (hexadecimal) over shape, dtype and bytes of arrays in the order of their names.

    A number counts as an array of one.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{values.shape} {values.dtype.name};".encode())
        digest.update(values.data)
    return digest.hexdigest()


def weights_sha256(model: Any) -> str:
    """The ``tensors_sha256`` of all weights of a Keras model.

    Neither layer names nor what is trainable matter, nor the states of random generators.
    """
    return tensors_sha256(named(model.weights))


def assign(network: Any, arrays: Arrays) -> None:
    """Give a Keras network the weights that ``named`` took from one like it.

    Raises: WeightsError where they do not fit it.
    """
    values = [arrays[name] for name in sorted(arrays)]
    variables = network.weights
    wanted = [(tuple(variable.shape) or (1,), variable.dtype) for variable in variables]
    # Files that were written before have an axis in numbers.
    if wanted != [(value.shape or (1,), value.dtype.name) for value in values]:
        raise WeightsError(
            f"the weights do not fit the network '{network.name}' that is built here",
            next_step="Install the versions of keras and tlkeras that they were made with.",
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.reshape(variable.shape))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file in the order of their names.

    Raises: WeightsError when it is none; OSError.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
    except SafetensorError as error:
        raise WeightsError("a file of weights must be whole", received=f"{path} ({error})") from None
    return {name: found[name] for name in sorted(found)}


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write a safetensors file, whole or not at all. One that is there is replaced; what links to it stays as it is.

    Raises: StorageError.
    """
    from safetensors.numpy import save

    write_bytes(path, save(dict(arrays)))
