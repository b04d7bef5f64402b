"""Who runs the frozen backbone: the fastest engine that is installed and gives what Keras gives.

Speed without trust is worth nothing here: an engine's answer on the first batch is compared with Keras' own
and the engine is dropped, with a warning, when they differ. See ``benchmarks/engines.py`` for the rates.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import ConfigError, unknown
from tlkeras.machine import usable_cpus
from tlkeras.storage import cache_root, write_bytes

ENGINES = ("openvino", "onnxruntime", "tensorflow")
PRECISIONS = ("fp32", "bf16")
# Raise it whenever the same recipe would give other numbers: what was stored is then computed again.
RECIPE_VERSION = 1
# Images on which an engine is compared with Keras; TensorFlow keeps the memory that it took for them.
VERIFIED = 8
# For fewer images, converting a network (5 s and more) takes longer than it saves.
CONVERSION_PAYS = 256
# Largest difference from Keras over the largest feature. Measured: 1e-6 for fp32 engines, 3e-3 to 1e-2 for bf16.
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}

Run = Callable[[np.ndarray], np.ndarray]  # float32 [n, S, S, 3] in 0..255 -> float32 [n, D]


@dataclass(frozen=True)
class Engine:
    """A verified engine: ``run`` maps float32 ``[n, S, S, 3]`` pixels in 0..255 to float32 ``[n, D]``.

    difference: largest difference from Keras on the first batch, relative to the largest feature there.
    """

    name: str
    precision: str
    run: Run
    difference: float


def installed() -> tuple[str, ...]:
    """The engines that this Python can import, the preferred first."""
    return tuple(name for name in ENGINES if importlib.util.find_spec(name))


def prepare(network: Any, weights_sha256: str, *, name: str = "auto") -> Path | None:
    """Convert a network for the engine that ``open_engine`` will try first, while there are no pixels yet.

    Returns the converted file, or None where that engine needs none. A network that cannot be converted is left to
    ``open_engine``, which says so.
    """
    candidates = _candidates() if name == "auto" else (name,)
    if candidates[0] in _BUILDERS and candidates[0] in installed():
        with contextlib.suppress(ValueError):
            return _onnx_file(network, weights_sha256)
    return None


def adopt(weights_sha256: str, size_px: int, converted: bytes) -> None:
    """Keep a network that another machine has converted; ``open_engine`` compares it with Keras like its own."""
    path = _onnx_path(weights_sha256, size_px)
    if not path.exists():
        write_bytes(path, converted)


def open_engine(
    network: Any,
    weights_sha256: str,
    first_batch: np.ndarray,
    *,
    name: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
) -> Engine:
    """Choose, build and verify an engine for a frozen Keras ``network`` (pixels in 0..255 → features).

    ``weights_sha256`` names the network in the cache of converted graphs; ``first_batch`` is float32
    ``[n, S, S, 3]``. With ``name="auto"`` the first of ``ENGINES`` that is installed and passes is taken, or
    TensorFlow where it sees a GPU. ``threads``: for OpenVINO and ONNX Runtime, by default one for each core;
    TensorFlow's belong to the process.

    Raises: ConfigError for an unknown name or precision, an engine that is not installed, or one that was
    asked for by name and does not pass.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if name != "auto" and name not in ENGINES:
        raise unknown("engine", name, ("auto", *ENGINES))
    if precision == "bf16" and name not in ("auto", "openvino"):
        raise ConfigError("bf16 is computed by OpenVINO only", received=f"--engine {name}")
    if precision == "bf16":
        name = "openvino"
    if name not in ("auto", *installed()):
        raise ConfigError(
            f"{name} is not installed", next_step='Run pip install "tlkeras[fast]", or choose another engine.'
        )
    keras_run = _tensorflow(network)
    expected = None
    for candidate in _candidates() if name == "auto" else (name,):
        if candidate == "tensorflow":
            break
        try:
            run = _BUILDERS[candidate](network, weights_sha256, precision, threads or usable_cpus())
            expected = keras_run(first_batch) if expected is None else expected
            difference = relative_difference(run(first_batch), expected)
        # A runtime that cannot take this network says so in its own exceptions (RuntimeError, Fail, …).
        except Exception as error:
            problem = f"cannot run this network ({_first_line(error)})"
        else:
            if difference <= TOLERANCE[precision]:
                return Engine(candidate, precision, run, difference)
            problem = f"differs from Keras by {difference:.1e} of the largest feature"
        if name != "auto":
            raise ConfigError(f"{candidate} {problem}", next_step="Choose --engine auto or tensorflow.")
        warnings.warn(f"{candidate} {problem}; trying the next engine", stacklevel=2)
    return Engine("tensorflow", "fp32", keras_run, 0.0)


class Runner:
    """A frozen backbone on its engine, which is chosen, built and verified when the first pixels are there.

    ``network``: gives the Keras backbone. ``views``: of each image, "plain" or "mirrored", left to right.
    ``images``: how many there will be, where that is known; the other options: see ``open_engine``.
    """

    def __init__(
        self,
        network: Callable[[], Any],
        weights_sha256: str,
        views: Sequence[str] = ("plain",),
        *,
        engine: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        images: int | None = None,
    ) -> None:
        self._network = network
        self._weights_sha256 = weights_sha256
        self._views = tuple(views)
        self._options: dict[str, Any] = {"name": engine, "precision": precision, "threads": threads}
        self._few = images is not None and images < CONVERSION_PAYS
        self.engine: Engine | None = None

    def views(self, pixels: np.ndarray) -> list[np.ndarray]:
        """The features of each view, float32 ``[n, D]``, of fitted pixels float32 ``[n, S, S, 3]`` in 0..255.

        Raises: ConfigError as ``open_engine``.
        """
        if self.engine is None:
            converted = _onnx_path(self._weights_sha256, pixels.shape[1])
            if self._few and self._options["name"] == "auto" and not converted.exists():
                self._options["name"] = "tensorflow"
            self.engine = open_engine(self._network(), self._weights_sha256, pixels[:VERIFIED], **self._options)
        run = self.engine.run
        return [run(np.ascontiguousarray(pixels[:, :, ::-1]) if v == "mirrored" else pixels) for v in self._views]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The features of all views averaged, float32 ``[n, D]``; see ``views``."""
        return averaged(self.views(pixels))


def averaged(views: Sequence[np.ndarray]) -> np.ndarray:
    """The features of an image, float32 ``[n, D]``, from those of its views."""
    total = views[0]
    for features in views[1:]:
        total = total + features
    return total / np.float32(len(views)) if len(views) > 1 else total


def features_of(backbone: Any, pixels: Any, mirror: bool) -> Any:
    """Features ``[N, D]`` of pixels ``[N, S, S, 3]``, Keras or TensorFlow tensors, as the head takes them.

    ``mirror``: averaged with the features of the pixels flipped left to right.
    """
    import keras

    features = backbone(pixels)
    if mirror:
        features = (features + backbone(keras.ops.flip(pixels, axis=2))) / 2
    return features


def relative_difference(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute expected value; infinite for NaN or other shapes."""
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max() / max(float(np.abs(expected).max()), 1e-30))


def _candidates() -> tuple[str, ...]:
    import tensorflow as tf

    return ("tensorflow",) if tf.config.list_physical_devices("GPU") else installed()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@functools.lru_cache(maxsize=1)
def _traced(network: Any) -> Any:
    """The network as one TensorFlow graph; tracing takes a second, and both conversion and comparison need it."""
    import tensorflow as tf

    size_px = network.input_shape[1]
    return tf.function(
        lambda pixels: network(pixels, training=False),
        input_signature=[tf.TensorSpec([None, size_px, size_px, 3], tf.float32, name="pixels")],
    )


def _tensorflow(network: Any) -> Run:
    function = _traced(network)
    return lambda pixels: function(pixels).numpy()


def _onnx_file(network: Any, weights_sha256: str) -> Path:
    """The converted network, kept in the cache: conversion takes seconds and is the same every time."""
    from tlkeras.onnx_graph import convert

    path = _onnx_path(weights_sha256, network.input_shape[1])
    if not path.exists():
        function = _traced(network)
        write_bytes(path, convert(function, list(function.input_signature)).SerializeToString())
    return path


def _onnx_path(weights_sha256: str, size_px: int) -> Path:
    from tlkeras.onnx_graph import OPSET

    return cache_root() / "engines" / f"{weights_sha256[:32]}-{size_px}-r{RECIPE_VERSION}-opset{OPSET}.onnx"


def _onnxruntime(network: Any, weights_sha256: str, precision: str, threads: int) -> Run:
    del precision  # fp32 is all it computes here
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _onnx_file(network, weights_sha256), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def _openvino(network: Any, weights_sha256: str, precision: str, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    # Left to itself OpenVINO computes in bf16 on CPUs that have it, with features off by up to 1 %.
    hint = {"bf16": openvino.Type.bf16, "fp32": openvino.Type.f32}[precision]
    compiled = core.compile_model(
        core.read_model(_onnx_file(network, weights_sha256)),
        "CPU",
        {
            openvino.properties.hint.inference_precision: hint,
            openvino.properties.inference_num_threads: threads,
            # Pinned, the threads of several processes all sit on the first cores and leave the others idle: two
            # workers on two cores reached 0.7 of one process's rate. Alone it makes no difference.
            openvino.properties.hint.enable_cpu_pinning: False,
        },
    )
    return lambda pixels: compiled(pixels)[0].copy()


_BUILDERS: dict[str, Callable[[Any, str, str, int], Run]] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
