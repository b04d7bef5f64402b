"""TensorFlow's C++ loader as an answering engine: what TensorFlow Serving will say of an exported SavedModel.

A model that Python reloads without complaint can fail there, so only this loader's answer counts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tlkeras.errors import ConfigError, ExportError, ServedError, unknown
from tlkeras.export.cpp_worker import DTYPES, SERVE_TAG, read_message, write_message

SAVED_MODEL_FILE = "saved_model.pb"
INVALID_ARGUMENT = 3


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the graph.

    name: ``operation:index``. dtype: as NumPy calls it, ``bytes`` for strings. shape: None where any size goes.
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
            return {name: Signature(_tensors(one.inputs), _tensors(one.outputs)) for name, one in named.items()}
    raise ExportError(f"'{path}' has no graph with the tag '{SERVE_TAG}'")


def _tensors(described: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(
            info.name,
            DTYPES.get(info.dtype, f"type {info.dtype}"),
            None if info.tensor_shape.unknown_rank
            else tuple(None if side.size < 0 else side.size for side in info.tensor_shape.dim),
        )
        for name, info in described.items()
    }  # fmt: skip


class CppLoader:
    """A SavedModel held by TensorFlow's C++ loader, in a process of its own without Python's TensorFlow.

    >>> with CppLoader("models/pets/1") as loader:                                     # doctest: +SKIP
    ...     loader.run("image_bytes", {"image_bytes": [jpeg]})["classes"][0, 0]

    ``folder``: of one version. ``threads``: for one operation and between operations; None leaves it to
    TensorFlow. ``signatures`` tells what can be run. Not for several threads at once.

    Raises: ExportError when there is no SavedModel or the loader refuses it.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        self.folder = Path(folder)
        self.signatures = read_signatures(folder)
        # Lives as long as the worker, and stays behind when that dies: it alone tells why.
        handle, self._log = tempfile.mkstemp(prefix="tlkeras-cpp-loader-", suffix=".log")
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "PYTHONPATH": os.pathsep.join(_search_path())}
        if threads is not None:
            environment.update(TF_NUM_INTRAOP_THREADS=str(threads), TF_NUM_INTEROP_THREADS=str(threads))
        command = [sys.executable, "-m", "tlkeras.export.cpp_worker", str(self.folder.absolute())]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=handle, env=environment
            )
        finally:
            os.close(handle)
        try:
            self._receive()
        except ServedError as error:
            self.close()
            raise ExportError(f"the C++ loader refuses '{folder}' ({error.rule})", next_step="Export again.") from None
        except BaseException:
            self.close()
            raise

    def run(
        self, signature: str, inputs: Mapping[str, Any], *, outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Answer one request.

        ``inputs``: by the signature's names, each an array or a list; strings are bytes objects. ``outputs``:
        names to fetch, all by default. Returns arrays of the signature's types; strings come as arrays of
        bytes objects.

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
        names = list(described.outputs) if outputs is None else list(outputs)
        for name in names:
            if name not in described.outputs:
                raise unknown(f"output of '{signature}'", name, described.outputs)
        fed = {info.name: _as_array(name, inputs[name], info) for name, info in described.inputs.items()}
        tensors = [described.outputs[name].name for name in names]
        self._send({"outputs": list(dict.fromkeys(tensors))}, fed)
        answers = self._receive()
        return {name: answers[tensor] for name, tensor in zip(names, tensors, strict=True)}

    def close(self) -> None:
        """End the process; may be called twice."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # when it has died already, which is what is asked for
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._log:
            Path(self._log).unlink(missing_ok=True)

    def __enter__(self) -> CppLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        if self._process.stdin is None or self._process.stdin.closed:
            raise ExportError("the C++ loader is closed")
        try:
            write_message(self._process.stdin, header, arrays)
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self) -> dict[str, np.ndarray]:
        assert self._process.stdout is not None
        try:
            header, arrays = read_message(self._process.stdout)
        except EOFError:
            raise self._death() from None
        if "error" in header:
            raise ServedError(int(header["code"]), _without_trace(header["error"]))
        return arrays

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


def _search_path() -> list[str]:
    """Where the worker finds this very package, installed or not."""
    here = str(Path(__file__).resolve().parents[2])
    return [here, *filter(None, [os.environ.get("PYTHONPATH")])]


def _as_array(name: str, value: Any, info: TensorInfo) -> np.ndarray:
    if info.dtype == "bytes":
        array = np.empty(len(value), object) if not isinstance(value, np.ndarray) else value.astype(object)
        if not isinstance(value, np.ndarray):
            array[:] = list(value)
        fits = all(isinstance(item, bytes) for item in array.ravel())
    else:
        array = np.asarray(value)
        fits = array.dtype.name == info.dtype
    shape = info.shape
    if shape is not None:
        fits = fits and len(shape) == array.ndim
        fits = fits and all(want in (None, size) for want, size in zip(shape, array.shape, strict=False))
    if not fits:
        wanted = "any shape" if shape is None else [size or "any" for size in shape]
        raise ConfigError(
            f"the input '{name}' must be {info.dtype} {wanted}",
            received=f"{array.dtype.name} {list(array.shape)}",
        )
    return array


def _without_trace(message: str) -> str:
    """The first line of TensorFlow's report, without the nodes through which the error came."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    return " ".join(lines[0].split()) if lines else "no reason given"
