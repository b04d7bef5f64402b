"""The engines that an export is checked in, opened from the files of a version folder."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import ExportError
from tlkeras.export.signatures import SAVED_MODEL_FILE
from tlkeras.runtime import HALF_FILE, MODEL_FILE, OnnxClassifier

# Largest difference of a probability from Python's. Weights of 16 bits differ by what was rounded away.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2

Answer = dict[str, np.ndarray]


@dataclass(frozen=True)
class Runtime:
    """An engine with an export open in it.

    pixels: answers uint8 ``[N, H, W, 3]`` with arrays by name, ``probabilities`` float32 ``[N, K]``,
    ``class_indices`` and ``scores`` ``[N, k]``; ``classes`` where the engine gives names. files: the same for a list of
    encoded images, None where it decodes none. tolerance: largest difference of a probability from Python's.
    """

    name: str
    tolerance: float
    pixels: Callable[[np.ndarray], Answer]
    files: Callable[[list[bytes]], Answer] | None = None


def runtimes_of(folder: Path) -> list[tuple[str, Callable[[], contextlib.AbstractContextManager[Runtime]]]]:
    """The engines that can answer from the files in ``folder``: names, and what opens them one at a time.

    Opening raises ExportError when the engine refuses the file.
    """
    found: list[tuple[str, Callable[[], contextlib.AbstractContextManager[Runtime]]]] = []
    if (folder / SAVED_MODEL_FILE).is_file():
        found.append(("C++ loader", lambda: _cpp_loader(folder)))
    if (folder / MODEL_FILE).is_file():
        found.append(("ONNX Runtime", lambda: _onnx_runtime("ONNX Runtime", folder / MODEL_FILE, TOLERANCE)))
        if importlib.util.find_spec("openvino"):
            found.append(("OpenVINO", lambda: _openvino(folder / MODEL_FILE)))
    if (folder / HALF_FILE).is_file():
        name = "ONNX Runtime, half"
        found.append((name, lambda: _onnx_runtime(name, folder / HALF_FILE, HALF_TOLERANCE)))
    return found


@contextlib.contextmanager
def _cpp_loader(folder: Path) -> Iterator[Runtime]:
    from tlkeras.export.cpp_loader import CppLoader

    with CppLoader(folder) as loader:
        yield Runtime(
            "C++ loader",
            TOLERANCE,
            lambda pixels: _as_text(loader.run("pixels", {"pixels": pixels})),
            lambda files: _as_text(loader.run("image_bytes", {"image_bytes": files})),
        )


@contextlib.contextmanager
def _onnx_runtime(name: str, path: Path, tolerance: float) -> Iterator[Runtime]:
    yield Runtime(name, tolerance, OnnxClassifier.load(path).run)


@contextlib.contextmanager
def _openvino(path: Path) -> Iterator[Runtime]:
    import openvino

    try:
        model = openvino.Core().read_model(path)
        # Left to itself OpenVINO computes in bf16 on CPUs that have it.
        options = {openvino.properties.hint.inference_precision: openvino.Type.f32}
        compiled = openvino.Core().compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise ExportError(f"OpenVINO refuses '{path.name}' ({_last_line(error)})") from None

    def run(pixels: np.ndarray) -> Answer:
        found = compiled(pixels)
        return {output.get_any_name(): np.array(found[output]) for output in compiled.outputs}

    yield Runtime("OpenVINO", TOLERANCE, run)


def _as_text(answer: Answer) -> Answer:
    """TensorFlow's strings are bytes; class names are text."""
    classes = answer["classes"]
    decoded = np.array([name.decode() for name in classes.ravel()], object).reshape(classes.shape)
    return {**answer, "classes": decoded}


def _last_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
