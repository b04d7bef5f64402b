"""The process that holds a SavedModel in TensorFlow's C++ loader and answers requests over its pipes.

Run as ``python -m tlkeras.export.cpp_worker FOLDER``. Python's TensorFlow is never imported here: the libraries of
the installed package are driven through their C interface (``tensorflow/c/c_api.h``), which is the loader and the
session that TensorFlow Serving uses. Requests and answers have the form of
:func:`write_message`; a request says for each tensor which tensor of the graph it is.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import json
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

# numpy.random first: loaded after TensorFlow's libraries it crashes the process.
import numpy as np
import numpy.random

SERVE_TAG = "serve"
# types.proto's numbers of the types that a signature may have, as NumPy calls them; strings are bytes.
DTYPES = {
    **{1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "bytes", 9: "int64"},
    **{10: "bool", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64"},
}
_NUMBERS = {name: number for number, name in DTYPES.items()}
_TSTRING_BYTES = 24  # sizeof(TF_TString), tensorflow/c/tf_tstring.h


def write_message(stream: IO[bytes], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a message: plain values and named arrays; arrays of bytes objects are strings to TensorFlow."""
    described, contents = [], []
    for name, array in arrays.items():
        if array.dtype == object:
            items = [bytes(item) for item in array.ravel()]
            lengths: list[int] | None = [len(item) for item in items]
            contents.append(b"".join(items))
        else:
            lengths = None
            contents.append(np.ascontiguousarray(array).tobytes())
        dtype = "bytes" if lengths is not None else array.dtype.name
        described.append({"name": name, "dtype": dtype, "shape": list(array.shape), "lengths": lengths})
    head = json.dumps({**header, "arrays": described}).encode()
    stream.write(struct.pack("<I", len(head)))
    stream.write(head)
    for content in contents:
        stream.write(struct.pack("<Q", len(content)))
        stream.write(content)
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write_message` wrote.

    Raises: EOFError when the other side has gone.
    """
    header = json.loads(_exactly(stream, *struct.unpack("<I", _exactly(stream, 4))))
    arrays = {}
    for described in header.pop("arrays"):
        content = _exactly(stream, *struct.unpack("<Q", _exactly(stream, 8)))
        if described["lengths"] is None:
            flat = np.frombuffer(content, described["dtype"])
        else:
            ends = np.cumsum([0, *described["lengths"]])
            flat = np.empty(len(ends) - 1, object)
            flat[:] = [content[start:end] for start, end in itertools.pairwise(ends)]
        arrays[described["name"]] = flat.reshape(described["shape"])
    return header, arrays


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


class StatusError(Exception):
    """TensorFlow's own report of a failure."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Session:
    """A loaded SavedModel.

    Raises: StatusError when TensorFlow refuses the folder; OSError when its libraries cannot be loaded.
    """

    def __init__(self, folder: str) -> None:
        self._c = _library()
        self._status = self._c.TF_NewStatus()
        options = self._c.TF_NewSessionOptions()
        self._graph = self._c.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(SERVE_TAG.encode())
        self._session = self._c.TF_LoadSessionFromSavedModel(
            options, None, os.fsencode(folder), tags, 1, self._graph, None, self._status
        )
        self._check()

    def run(self, inputs: Mapping[str, np.ndarray], outputs: list[str]) -> dict[str, np.ndarray]:
        """Feed tensors by their names in the graph (``operation:index``), fetch others.

        Raises: StatusError when the graph refuses.
        """
        fed = (_Output * len(inputs))(*[self._output(name) for name in inputs])
        fetched = (_Output * len(outputs))(*[self._output(name) for name in outputs])
        values = (ctypes.c_void_p * len(inputs))(*[self._tensor(array) for array in inputs.values()])
        answers = (ctypes.c_void_p * len(outputs))()
        try:
            self._c.TF_SessionRun(
                *(self._session, None, fed, values, len(fed), fetched, answers, len(fetched)),
                *(None, 0, None, self._status),
            )
            self._check()
            return {name: self._array(answer) for name, answer in zip(outputs, answers, strict=True)}
        finally:
            for tensor in (*values, *answers):
                if tensor:
                    self._c.TF_DeleteTensor(tensor)

    def _check(self) -> None:
        code = self._c.TF_GetCode(self._status)
        if code:
            raise StatusError(code, self._c.TF_Message(self._status).decode(errors="replace"))

    def _output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self._c.TF_GraphOperationByName(self._graph, operation.encode())
        if not found:
            raise StatusError(5, f"the graph has no operation '{operation}'")
        return _Output(found, int(index or 0))

    def _tensor(self, array: np.ndarray) -> int:
        strings = array.dtype == object
        number = _NUMBERS["bytes" if strings else array.dtype.name]
        dimensions = (ctypes.c_int64 * array.ndim)(*array.shape)
        size = array.size * _TSTRING_BYTES if strings else array.nbytes
        tensor = self._c.TF_AllocateTensor(number, dimensions, array.ndim, size)
        start = self._c.TF_TensorData(tensor)
        if strings:
            for index, item in enumerate(array.ravel()):
                place = start + index * _TSTRING_BYTES
                self._c.TF_StringInit(place)
                self._c.TF_StringCopy(place, item, len(item))
        elif size:
            ctypes.memmove(start, np.ascontiguousarray(array).ctypes.data, size)
        return tensor

    def _array(self, tensor: int) -> np.ndarray:
        shape = [self._c.TF_Dim(tensor, axis) for axis in range(self._c.TF_NumDims(tensor))]
        count = int(np.prod(shape, dtype=np.int64))
        dtype = DTYPES[self._c.TF_TensorType(tensor)]
        start = self._c.TF_TensorData(tensor)
        if dtype == "bytes":
            flat = np.empty(count, object)
            for index in range(count):
                place = start + index * _TSTRING_BYTES
                size = self._c.TF_StringGetSize(place)
                flat[index] = ctypes.string_at(self._c.TF_StringGetDataPointer(place), size)
        else:
            size = self._c.TF_TensorByteSize(tensor)
            flat = np.frombuffer(ctypes.string_at(start, size) if size else b"", dtype)
        return flat.reshape(shape)


class _Library:
    """The C functions that are used, each with its types, from whichever of the two libraries has it."""

    def __init__(self, libraries: list[ctypes.CDLL]) -> None:
        pointer, integer, size, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
        outputs, tensors = ctypes.POINTER(_Output), ctypes.POINTER(pointer)
        functions: dict[str, tuple[Any, list[Any]]] = {
            "TF_NewStatus": (pointer, []),
            "TF_GetCode": (integer, [pointer]),
            "TF_Message": (text, [pointer]),
            "TF_NewGraph": (pointer, []),
            "TF_NewSessionOptions": (pointer, []),
            "TF_LoadSessionFromSavedModel": (
                pointer,
                [pointer, pointer, text, ctypes.POINTER(text), integer, pointer, pointer, pointer],
            ),
            "TF_GraphOperationByName": (pointer, [pointer, text]),
            "TF_SessionRun": (
                None,
                [
                    *(pointer, pointer, outputs, tensors, integer, outputs, tensors, integer),
                    *(pointer, integer, pointer, pointer),
                ],
            ),
            "TF_AllocateTensor": (pointer, [integer, ctypes.POINTER(ctypes.c_int64), integer, size]),
            "TF_DeleteTensor": (None, [pointer]),
            "TF_TensorData": (pointer, [pointer]),
            "TF_TensorByteSize": (size, [pointer]),
            "TF_TensorType": (integer, [pointer]),
            "TF_NumDims": (integer, [pointer]),
            "TF_Dim": (ctypes.c_int64, [pointer, integer]),
            "TF_StringInit": (None, [pointer]),
            "TF_StringCopy": (None, [pointer, text, size]),
            "TF_StringGetSize": (size, [pointer]),
            "TF_StringGetDataPointer": (pointer, [pointer]),
        }
        for name, (result, arguments) in functions.items():
            function = next(getattr(library, name) for library in libraries if hasattr(library, name))
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def _library() -> _Library:
    found = importlib.util.find_spec("tensorflow")  # finds the package, imports nothing
    if found is None or not found.submodule_search_locations:
        raise OSError("TensorFlow is not installed")
    folder = Path(found.submodule_search_locations[0])
    ending = ".2.dylib" if sys.platform == "darwin" else ".so.2"
    names = [f"{name}{ending}" for name in ("libtensorflow_framework", "libtensorflow_cc")]
    return _Library([ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in names])


def main() -> None:
    """Load, say so, then answer until the other side closes the pipe."""
    # The protocol has its own handle: whatever the libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    try:
        session = Session(sys.argv[1])
    except (StatusError, OSError) as error:
        write_message(answers, {"error": str(error), "code": getattr(error, "code", 2)}, {})
        return
    write_message(answers, {}, {})
    while True:
        try:
            header, inputs = read_message(requests)
        except EOFError:
            return
        try:
            write_message(answers, {}, session.run(inputs, header["outputs"]))
        except StatusError as error:
            write_message(answers, {"error": str(error), "code": error.code}, {})


if __name__ == "__main__":
    numpy.random.default_rng()  # touched before the libraries are loaded
    main()
