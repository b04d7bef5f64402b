"""What a SavedModel's signatures take and give, read from ``saved_model.pb`` without TensorFlow.

Field numbers are those of ``saved_model.proto``, ``meta_graph.proto`` and ``tensor_shape.proto``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tlkeras.errors import ExportError
from tlkeras.export import wire

SAVED_MODEL_FILE = "saved_model.pb"
SERVE_TAG = "serve"
# types.proto's numbers of the types that a signature may have, as NumPy calls them; strings are bytes.
DTYPES = {
    **{1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "bytes", 9: "int64"},
    **{10: "bool", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64"},
}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the graph.

    name: ``operation:index``. dtype: a value of ``DTYPES``. shape: None where any size goes.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one signature by their names."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


def read_signatures(folder: str | Path) -> dict[str, Signature]:
    """The signatures of the SavedModel in ``folder`` under the tag ``serve``.

    Raises: ExportError when there is no SavedModel or its file is damaged.
    """
    path = Path(folder) / SAVED_MODEL_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(
            f"'{folder}' is not a SavedModel ({SAVED_MODEL_FILE}: {error.strerror})",
            next_step="Give the folder of one version, DIR/NAME/NUMBER.",
        ) from None
    try:
        for graph in wire.messages(content, 2):
            if SERVE_TAG in [tag.decode() for info in wire.messages(graph, 1) for tag in wire.messages(info, 4)]:
                named = [(wire.text(entry, 1), wire.messages(entry, 2)[-1]) for entry in wire.messages(graph, 5)]
                # TensorFlow adds one of its own, which initialises and answers nothing.
                return {name: _signature(message) for name, message in named if not name.startswith("__")}
    except (ValueError, IndexError, KeyError) as error:
        raise ExportError(f"'{path}' is damaged ({error})", next_step="Export again.") from None
    raise ExportError(f"'{path}' has no graph with the tag '{SERVE_TAG}'")


def _signature(message: bytes) -> Signature:
    def tensors(number: int) -> dict[str, TensorInfo]:
        entries = wire.messages(message, number)
        return {wire.text(entry, 1): _tensor(wire.messages(entry, 2)[-1]) for entry in entries}

    return Signature(tensors(1), tensors(2))


def _tensor(message: bytes) -> TensorInfo:
    shape: tuple[int | None, ...] | None = None
    for described in wire.messages(message, 3):
        if not wire.integer(described, 3):
            sizes = [wire.integer(dimension, 1) for dimension in wire.messages(described, 2)]
            shape = tuple(None if size < 0 else size for size in sizes)
    return TensorInfo(wire.text(message, 1), DTYPES[wire.integer(message, 2)], shape)
