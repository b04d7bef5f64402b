"""TensorFlow's C++ loader as an answering engine: what TensorFlow Serving will say of an exported SavedModel.

A model that Python reloads without complaint can fail there, so only this loader's answer counts. It lives in a
process of its own (``python -m`` this module), which never imports Python's TensorFlow: the libraries of the installed
package are driven through their C interface (``tensorflow/c/c_api.h``), the loader and the session that TensorFlow
Serving uses. Both ends of its pipes are ours, so requests and answers are pickled.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# numpy.random first: loaded after TensorFlow's libraries it crashes the process.
import numpy as np
import numpy.random

from tlkeras.errors import ConfigError, ExportError, ServedError, unknown

SERVE_TAG = "serve"
SAVED_MODEL_FILE = "saved_model.pb"
# TensorFlow's status codes.
UNKNOWN, INVALID_ARGUMENT, NOT_FOUND = 2, 3, 5


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one signature by their names, each a ``tf.TensorSpec`` with its name in the graph."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]


def read_signatures(folder: str | Path) -> dict[str, Signature]:
    """The signatures of the SavedModel in ``folder`` under the tag ``serve``.

    Raises: ExportError when there is no SavedModel or its file is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = Path(folder) / SAVED_MODEL_FILE
    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except OSError as error:
        raise ExportError(
            f"'{folder}' is not a SavedModel ({SAVED_MODEL_FILE}: {error.strerror})",
            next_step="Give the folder of one version, DIR/NAME/NUMBER.",
        ) from None
    except DecodeError as error:
        raise ExportError(f"'{path}' is damaged ({error})", next_step="Export again.") from None
    for graph in model.meta_graphs:
        if SERVE_TAG in graph.meta_info_def.tags:
            # TensorFlow adds one of its own, which initialises and answers nothing.
            named = {name: one for name, one in graph.signature_def.items() if not name.startswith("__")}
            return {name: Signature(_specs(one.inputs), _specs(one.outputs)) for name, one in named.items()}
    raise ExportError(f"'{path}' has no graph with the tag '{SERVE_TAG}'")


def _specs(described: Mapping[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.TensorSpec(info.tensor_shape, info.dtype, info.name) for name, info in described.items()}


class CppLoader:
    """A SavedModel held by TensorFlow's C++ loader, in a process of its own without Python's TensorFlow.

    >>> with CppLoader("models/pets/1") as loader:                                     # doctest: +SKIP
    ...     loader.run("image_bytes", {"image_bytes": [jpeg]})["classes"][0, 0]

    ``folder``: of one version. ``threads``: for one operation and between operations; None leaves it to
    TensorFlow. ``signatures`` tells what can be run. Not for several threads at once.

    Raises: ExportError when there is no SavedModel or the loader refuses it.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        import tensorflow as tf

        self.signatures = read_signatures(folder)
        # The worker is to find this very package, installed or not.
        here = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "PYTHONPATH": os.pathsep.join(here)}
        if threads is not None:
            environment.update(TF_NUM_INTRAOP_THREADS=str(threads), TF_NUM_INTEROP_THREADS=str(threads))
        command = [
            sys.executable,
            "-m",
            "tlkeras.export.cpp_loader",
            str(Path(folder).absolute()),
            tf.sysconfig.get_lib(),
        ]
        # Lives as long as the worker, and stays behind when that dies: it alone tells why.
        with tempfile.NamedTemporaryFile(prefix="tlkeras-cpp-loader-", suffix=".log", delete=False) as log:
            self._log = log.name
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        self._requests: Any = self._process.stdin
        try:
            self._receive()
        except ServedError as error:
            self.close()
            raise ExportError(f"the C++ loader refuses '{folder}' ({error.rule})", next_step="Export again.") from None
        except BaseException:
            self.close()
            raise

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Answer one request.

        ``inputs``: by the signature's names, each an array or a list; strings are bytes objects. Returns arrays of the
        signature's types by its names; strings come as arrays of bytes objects.

        Raises: ConfigError for names or shapes that the signature does not have; ServedError when the graph
        refuses the request, after which the next one is answered; ExportError when the process has died.
        """
        if signature not in self.signatures:
            raise unknown("signature", signature, self.signatures)
        described = self.signatures[signature]
        for name in inputs:
            if name not in described.inputs:
                raise unknown(f"input of '{signature}'", name, described.inputs)
        missing = [name for name in described.inputs if name not in inputs]
        if missing:
            raise ConfigError(f"the signature '{signature}' needs the input '{missing[0]}'")
        fed = {spec.name: _as_array(name, inputs[name], spec) for name, spec in described.inputs.items()}
        fetched = {name: spec.name for name, spec in described.outputs.items()}
        if self._requests.closed:
            raise ExportError("the C++ loader is closed")
        try:
            _send(self._requests, (fed, list(dict.fromkeys(fetched.values()))))
        except BrokenPipeError:
            raise self._death() from None
        answers = self._receive()
        return {name: answers[tensor] for name, tensor in fetched.items()}

    def close(self) -> None:
        """End the process; may be called twice."""
        # It holds nothing that would have to be written. What was being sent when it died is lost with it.
        with contextlib.suppress(BrokenPipeError), self._process:
            self._process.kill()
        if self._log:
            Path(self._log).unlink(missing_ok=True)

    def __enter__(self) -> CppLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> Any:
        try:
            answer = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        except (EOFError, pickle.UnpicklingError):
            raise self._death() from None
        if isinstance(answer, ServedError):
            raise answer
        return answer

    def _death(self) -> ExportError:
        code = self._process.wait()
        ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        lines = Path(self._log).read_text(errors="replace").strip().splitlines()
        if not lines:
            return ExportError(f"the C++ loader's process {ended} and said nothing")
        # What TensorFlow gives up on is a fatal line; those after it are the stack.
        reason = next((line for line in lines if line.startswith("F") or "Check failed" in line), lines[-1])
        kept, self._log = self._log, ""
        return ExportError(f"the C++ loader's process {ended}: {reason[:300]}", next_step=f"All it said: {kept}")


def _as_array(name: str, value: Any, spec: Any) -> np.ndarray:
    is_text = spec.dtype.name == "string"
    # With None at the end NumPy does not take bytes for numbers or arrays.
    array = np.array([*value, None], object)[:-1] if is_text else np.asarray(value)
    kind = "bytes" if is_text else spec.dtype.name
    fits = all(isinstance(item, bytes) for item in array.ravel()) if is_text else array.dtype.name == kind
    if not fits or not spec.shape.is_compatible_with(array.shape):
        received = f"{array.dtype.name} {list(array.shape)}"
        raise ConfigError(f"the input '{name}' must be {kind} {spec.shape}", received=received)
    return array


def _send(stream: Any, message: Any) -> None:
    pickle.dump(message, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


# From here on: the other process.

# types.proto's numbers of the types that a signature may have, as NumPy calls them; strings are bytes objects.
_STRING = 7
_DTYPES = {
    **{1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", _STRING: "object", 9: "int64"},
    **{10: "bool", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64"},
}
_NUMBERS = {name: number for number, name in _DTYPES.items()}
_TSTRING_BYTES = 24  # sizeof(TF_TString), tensorflow/c/tf_tstring.h


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Session:
    """A loaded SavedModel; what TensorFlow refuses is a ServedError."""

    def __init__(self, folder: str, libraries: Path) -> None:
        self._c = _library(libraries)
        self._status = self._c.TF_NewStatus()
        self._graph = self._c.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(SERVE_TAG.encode())
        self._session = self._c.TF_LoadSessionFromSavedModel(
            self._c.TF_NewSessionOptions(), None, os.fsencode(folder), tags, 1, self._graph, None, self._status
        )
        self._check()

    def run(self, inputs: Mapping[str, np.ndarray], outputs: list[str]) -> dict[str, np.ndarray]:
        """Feed tensors by their names in the graph (``operation:index``), fetch others."""
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
        if code := self._c.TF_GetCode(self._status):
            # The first line, without the nodes through which the error came.
            said = self._c.TF_Message(self._status).decode(errors="replace").strip().splitlines()
            raise ServedError(code, said[0] if said else "no reason given")

    def _output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self._c.TF_GraphOperationByName(self._graph, operation.encode())
        if not found:
            raise ServedError(NOT_FOUND, f"the graph has no operation '{operation}'")
        return _Output(found, int(index or 0))

    def _tensor(self, array: np.ndarray) -> int:
        number = _NUMBERS[array.dtype.name]
        dimensions = (ctypes.c_int64 * array.ndim)(*array.shape)
        size = array.size * _TSTRING_BYTES if number == _STRING else array.nbytes
        tensor = self._c.TF_AllocateTensor(number, dimensions, array.ndim, size)
        start = self._c.TF_TensorData(tensor)
        if number == _STRING:
            for place, item in enumerate(array.ravel()):
                self._c.TF_StringInit(start + place * _TSTRING_BYTES)
                self._c.TF_StringCopy(start + place * _TSTRING_BYTES, item, len(item))
        elif size:
            ctypes.memmove(start, np.ascontiguousarray(array).ctypes.data, size)
        return tensor

    def _array(self, tensor: int) -> np.ndarray:
        shape = [self._c.TF_Dim(tensor, axis) for axis in range(self._c.TF_NumDims(tensor))]
        number, start = self._c.TF_TensorType(tensor), self._c.TF_TensorData(tensor)
        if number == _STRING:
            flat = np.empty(int(np.prod(shape, dtype=np.int64)), object)
            for index in range(len(flat)):
                place = start + index * _TSTRING_BYTES
                flat[index] = ctypes.string_at(self._c.TF_StringGetDataPointer(place), self._c.TF_StringGetSize(place))
        else:
            size = self._c.TF_TensorByteSize(tensor)
            flat = np.frombuffer(ctypes.string_at(start, size) if size else b"", _DTYPES[number])
        return flat.reshape(shape)


# The C functions that are used: the type of the result, then of each argument.
_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_int64, "n": ctypes.c_size_t, "s": ctypes.c_char_p}
_FUNCTIONS = {
    "TF_NewStatus": "p",
    "TF_GetCode": "ip",
    "TF_Message": "sp",
    "TF_NewGraph": "p",
    "TF_NewSessionOptions": "p",
    "TF_LoadSessionFromSavedModel": "pppspippp",
    "TF_GraphOperationByName": "pps",
    "TF_SessionRun": "-ppppippipipp",
    "TF_AllocateTensor": "pipin",
    "TF_DeleteTensor": "-p",
    "TF_TensorData": "pp",
    "TF_TensorByteSize": "np",
    "TF_TensorType": "ip",
    "TF_NumDims": "ip",
    "TF_Dim": "lpi",
    "TF_StringInit": "-p",
    "TF_StringCopy": "-psn",
    "TF_StringGetSize": "np",
    "TF_StringGetDataPointer": "pp",
}


def _library(folder: Path) -> Any:
    """The functions by their names, from whichever of TensorFlow's two libraries in ``folder`` has each."""
    ending = ".2.dylib" if sys.platform == "darwin" else ".so.2"
    names = [f"{name}{ending}" for name in ("libtensorflow_framework", "libtensorflow_cc")]
    libraries = [ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in names]
    functions = {}
    for name, types in _FUNCTIONS.items():
        functions[name] = next(getattr(library, name) for library in libraries if hasattr(library, name))
        functions[name].restype = _TYPES.get(types[0])
        functions[name].argtypes = [_TYPES[kind] for kind in types[1:]]
    return SimpleNamespace(**functions)


def _serve(folder: str, libraries: str) -> None:
    """Load, say so, then answer until the other side closes the pipe. What the libraries print is no answer."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        session = _Session(folder, Path(libraries))
    except (ServedError, OSError) as error:
        _send(answers, error if isinstance(error, ServedError) else ServedError(UNKNOWN, str(error)))
        return
    _send(answers, None)
    with contextlib.suppress(EOFError):
        while True:
            inputs, outputs = pickle.load(sys.stdin.buffer)
            try:
                _send(answers, session.run(inputs, outputs))
            except ServedError as error:
                _send(answers, error)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
