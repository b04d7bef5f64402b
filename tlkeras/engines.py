"""Who runs the frozen backbone: the fastest engine that is installed and gives what Keras gives.

Speed without trust is worth nothing here: an engine's answers to drawn images are compared with Keras' own, which are
kept beside the converted network (``tlkeras.graphs``), and the engine is dropped, with a warning, when they differ. So
Keras is needed once for each backbone. See ``benchmarks/engines.py`` for the rates.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import graphs
from tlkeras.errors import ConfigError, unknown
from tlkeras.graphs import Network, Run
from tlkeras.machine import usable_cpus

ENGINES = ("openvino", "onnxruntime", "tensorflow")
PRECISIONS = ("fp32", "bf16")
# Up to so many images, the engine that is ready first is done first: OpenVINO compiles for a second.
FEW = 256
# Largest difference from Keras over the largest feature. Measured: 1e-6 for fp32 engines, 3e-3 to 1e-2 for bf16.
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}
# One of these is there where TensorFlow can have a GPU: NVIDIA's, AMD's, that of Windows below Linux.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True)
class Engine:
    """A verified engine: ``run`` maps float32 ``[n, S, S, 3]`` pixels in 0..255 to float32 ``[n, D]``.

    difference: largest difference from Keras on drawn images, relative to the largest feature there.
    """

    name: str
    precision: str
    run: Run
    difference: float


def installed() -> tuple[str, ...]:
    """The engines that this Python can import, the preferred first."""
    return tuple(name for name in ENGINES if importlib.util.find_spec(name))


def prepare(backbone: Network, *, name: str = "auto") -> None:
    """Convert a backbone for the engine that ``open_engine`` will try first, unless it is converted already.

    A network that cannot be converted is left to ``open_engine``, which says so.
    """
    candidates = _candidates(few=False) if name == "auto" else (name,)
    if candidates[0] in _BUILDERS and candidates[0] in installed():
        with contextlib.suppress(ValueError):
            _ = graphs.find(backbone) or graphs.make(backbone)


def open_engine(
    backbone: Network, *, name: str = "auto", precision: str = "fp32", threads: int | None = None, few: bool = False
) -> Engine:
    """Choose, build and verify an engine for a frozen backbone; Keras is asked for only where it was not before.

    With ``name="auto"`` the first of ``ENGINES`` that is installed and passes is taken, or TensorFlow where it sees a
    GPU; for ``few`` images ONNX Runtime, which is ready first. ``threads``: for OpenVINO and ONNX Runtime, by default
    one for each core; TensorFlow's belong to the process.

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
    for candidate in _candidates(few=few) if name == "auto" else (name,):
        if candidate == "tensorflow":
            break
        try:
            graph = graphs.find(backbone) or graphs.make(backbone)
            run = _BUILDERS[candidate](graph.path, precision, threads or usable_cpus())
            difference = graph.difference(run, candidate, precision)
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
    function = graphs.traced(backbone.network)
    return Engine("tensorflow", "fp32", lambda pixels: function(pixels).numpy(), 0.0)


class Runner:
    """A frozen backbone on its engine, which is chosen, built and verified when the first pixels are there.

    ``views``: of each image, "plain" or "mirrored", left to right. ``images``: how many there will be, where that is
    known; the other options: see ``open_engine``.
    """

    def __init__(
        self,
        backbone: Network,
        views: Sequence[str] = ("plain",),
        *,
        engine: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        images: int | None = None,
    ) -> None:
        self._backbone = backbone
        self._views = tuple(views)
        few = images is not None and images < FEW
        self._options: dict[str, Any] = {"name": engine, "precision": precision, "threads": threads, "few": few}
        self.engine: Engine | None = None

    def open(self) -> Engine:
        """The engine, opened at the first call.

        Raises: ConfigError as ``open_engine``.
        """
        if self.engine is None:
            self.engine = open_engine(self._backbone, **self._options)
        return self.engine

    def views(self, pixels: np.ndarray) -> list[np.ndarray]:
        """The features of each view, float32 ``[n, D]``, of fitted pixels float32 ``[n, S, S, 3]`` in 0..255.

        Raises: ConfigError as ``open_engine``.
        """
        run = self.open().run
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


def _candidates(*, few: bool) -> tuple[str, ...]:
    if few:
        return tuple(sorted(installed(), key=("onnxruntime", *ENGINES).index))
    # TensorFlow is asked only where there may be one: it takes seconds to import.
    if any(Path(device).exists() for device in _GPU_DEVICES):
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return ("tensorflow",)
    return installed()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _onnxruntime(graph: Path, precision: str, threads: int) -> Run:
    del precision  # fp32 is all it computes here
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def _openvino(graph: Path, precision: str, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    # Left to itself OpenVINO computes in bf16 on CPUs that have it, with features off by up to 1 %.
    hint = {"bf16": openvino.Type.bf16, "fp32": openvino.Type.f32}[precision]
    compiled = core.compile_model(
        core.read_model(graph),
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


_BUILDERS: dict[str, Callable[[Path, str, int], Run]] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
