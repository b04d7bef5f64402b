"""The formats of an export, one object each: its writer, the engines that check it, its part of the card, its usage.

The command's help, the gate and ``verify``, the model card, the report's lines to copy, the documentation's table and
the tests go through ``FORMATS``: a new format is a class here and a module that writes its files. Nothing heavy is
imported before a format is written or an engine opened.
"""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkeras.errors import ConfigError, ExportError, unknown
from tlkeras.options import option

if TYPE_CHECKING:
    import numpy as np

    from tlkeras.trained import TrainedClassifier

# Largest difference of a probability from Python's. Weights of 16 bits differ by what was rounded away.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2

Answer = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What a writer is given.

    folder: the version under way, in which the formats that stand before this one have their files. top_k: classes
    listed in an answer. signature: what the SavedModel's ``serving_default`` takes.
    """

    trained: TrainedClassifier
    folder: Path
    top_k: int
    signature: str


@dataclass(frozen=True)
class Runtime:
    """An engine with an export open in it.

    pixels: answers uint8 ``[N, H, W, 3]`` with arrays by name, ``probabilities`` float32 ``[N, K]``,
    ``class_indices`` and ``scores`` ``[N, k]``; ``classes`` where the engine gives names. files: the same for a list of
    encoded images, None where it decodes none.
    """

    pixels: Callable[[np.ndarray], Answer]
    files: Callable[[list[bytes]], Answer] | None = None


@dataclass(frozen=True)
class Engine:
    """Who answers from a format's files.

    open: from the folder of a version to the runtime; raises ExportError when the engine refuses the files.
    tolerance: largest difference of a probability from Python's. package: without which it is left out.
    """

    name: str
    open: Callable[[Path], contextlib.AbstractContextManager[Runtime]]
    tolerance: float
    package: str = ""

    @property
    def installed(self) -> bool:
        """Whether it can be asked on this machine."""
        return not self.package or importlib.util.find_spec(self.package) is not None


@dataclass(frozen=True)
class Place:
    """Where the one who reads how to use a version finds it.

    name: of the model. version: the folder of the version. model: the folder around it, as an absolute shell word.
    """

    name: str
    version: str
    model: str


@dataclass(frozen=True)
class Usage:
    """Lines to copy; ``language`` as Markdown calls it."""

    title: str
    language: str
    code: str


class Format(abc.ABC):
    """One format.

    name: as users write it. about: what it is for, in one line. files: what it puts into a version, the first of which
    tells that it is there. needs: the format whose file it is made of. default: written where no formats are named.
    tags: of the model card.
    """

    name: str
    about: str
    files: tuple[str, ...]
    needs: str = ""
    default: bool = False
    tags: tuple[str, ...] = ()

    @abc.abstractmethod
    def write(self, job: Job) -> None:
        """Write the files into ``job.folder``.

        Raises: ExportError for a network that the format cannot express; StorageError when the disk refuses.
        """

    def engines(self) -> tuple[Engine, ...]:
        """Who answers from its files; each is compared with Python before anything is published."""
        return ()

    @abc.abstractmethod
    def usage(self, place: Place) -> Usage:
        """How it is asked."""


class _SavedModel(Format):
    name = "saved_model"
    about = "TensorFlow Serving, KServe: from the file's bytes to class names"
    files = ("saved_model.pb", "variables", "assets", "batching_params.pbtxt")
    default = True

    def write(self, job: Job) -> None:
        from tlkeras.export.saved_model import write_saved_model

        write_saved_model(job.trained, job.folder, default_signature=job.signature, top_k=job.top_k)

    def engines(self) -> tuple[Engine, ...]:
        return (Engine("C++ loader", _cpp_loader, TOLERANCE),)

    def usage(self, place: Place) -> Usage:
        photo = "'\"$(base64 -w0 photo.jpg)\"'"
        request = f'{{"signature_name": "image_bytes", "instances": [{{"image_bytes": {{"b64": "{photo}"}}}}]}}'
        return Usage(
            "TensorFlow Serving, asked by curl",
            "bash",
            f"docker run -d -p 8501:8501 -v {place.model}:/models/{place.name}:ro \\\n"
            f"  -e MODEL_NAME={place.name} tensorflow/serving:2.21.0\n"
            f"echo '{request}' |\n  curl -s -d @- http://localhost:8501/v1/models/{place.name}:predict",
        )


class _Onnx(Format):
    name = "onnx"
    about = "ONNX Runtime and OpenVINO in any language, without TensorFlow"
    files = ("model.onnx",)
    default = True
    tags = ("onnx",)

    def write(self, job: Job) -> None:
        from tlkeras.export.onnx_model import write_onnx

        write_onnx(job.trained, job.folder / self.files[0], top_k=job.top_k)

    def engines(self) -> tuple[Engine, ...]:
        file = self.files[0]
        return (
            Engine("ONNX Runtime", lambda folder: _onnx_runtime(folder / file), TOLERANCE),
            Engine("OpenVINO", lambda folder: _openvino(folder / file), TOLERANCE, package="openvino"),
        )

    def usage(self, place: Place) -> Usage:
        return Usage(
            "ONNX Runtime, without TensorFlow",
            "python",
            "from tlkeras.runtime import OnnxClassifier\n\n"
            f"classifier = OnnxClassifier.load({place.version!r})\n"
            'classifier.predict("photo.jpg")',
        )


class _OnnxHalf(_Onnx):
    name = "onnx-fp16"
    about = "the same with weights of 16 bits: half the download (`--half`)"
    files = ("model_half.onnx",)
    needs = "onnx"
    default = False

    def write(self, job: Job) -> None:
        from tlkeras.export.onnx_model import write_half

        write_half(job.folder / _Onnx.files[0], job.folder / self.files[0])

    def engines(self) -> tuple[Engine, ...]:
        file = self.files[0]
        return (Engine("ONNX Runtime, half", lambda folder: _onnx_runtime(folder / file), HALF_TOLERANCE),)

    def usage(self, place: Place) -> Usage:
        whole = super().usage(Place(place.name, f"{place.version}/{self.files[0]}", place.model))
        return Usage("ONNX Runtime, weights of 16 bits", whole.language, whole.code)


class _Web(Format):
    name = "web"
    about = "a page that classifies dropped photos in the browser, offline"
    files = ("web",)
    needs = "onnx"

    def write(self, job: Job) -> None:
        from tlkeras.export.web import write_web

        write_web(job.folder / _Onnx.files[0], job.folder / self.files[0])

    def usage(self, place: Place) -> Usage:
        return Usage(
            "A page in the browser, http://localhost:8000",
            "bash",
            f"python3 -m http.server 8000 --directory {shlex.quote(f'{place.version}/{self.files[0]}')}",
        )


# In the order in which they are written: a format stands behind the one that it needs.
FORMATS: dict[str, Format] = {one.name: one for one in (_SavedModel(), _Onnx(), _OnnxHalf(), _Web())}
DEFAULT_FORMATS = tuple(name for name, one in FORMATS.items() if one.default)


@dataclass(frozen=True)
class ExportConfig:
    """What to write; some formats need another.

    Raises: ConfigError for a format or signature that there is not, or formats that do not go together.
    """

    formats: tuple[str, ...] = option(DEFAULT_FORMATS, f"Of {', '.join(FORMATS)}; with commas between.")
    signature: str = option("pixels", "What the SavedModel's serving_default takes: pixels or image_bytes.")
    top_k: int | None = option(None, "Classes listed in an answer; 5, or all, by default.")
    half: bool = option(False, "The same as the format onnx-fp16: weights of 16 bits.")

    def __post_init__(self) -> None:
        from tlkeras.export.saved_model import SIGNATURES

        chosen = (*self.formats, *(["onnx-fp16"] if self.half else []))
        for name in chosen:
            if name not in FORMATS:
                raise unknown("format", name, FORMATS)
            if FORMATS[name].needs not in ("", *chosen):
                raise ConfigError(f"{name} needs the format {FORMATS[name].needs}", received=", ".join(chosen))
        if not chosen:
            raise ConfigError("an export needs a format", next_step=f"There are {', '.join(FORMATS)}.")
        if self.signature not in SIGNATURES:
            raise unknown("signature", self.signature, SIGNATURES)
        object.__setattr__(self, "formats", tuple(name for name in FORMATS if name in chosen))


def formats_in(folder: Path) -> list[Format]:
    """The formats that a version has files of."""
    return [one for one in FORMATS.values() if (folder / one.files[0]).exists()]


def runtimes_of(folder: Path) -> list[tuple[Format, Engine]]:
    """The installed engines that can answer from the files in ``folder``, each with its format."""
    return [(one, engine) for one in formats_in(folder) for engine in one.engines() if engine.installed]


@contextlib.contextmanager
def _cpp_loader(folder: Path) -> Iterator[Runtime]:
    from tlkeras.export.cpp_loader import CppLoader

    with CppLoader(folder) as loader:
        yield Runtime(
            lambda pixels: _as_text(loader.run("pixels", {"pixels": pixels})),
            lambda files: _as_text(loader.run("image_bytes", {"image_bytes": files})),
        )


@contextlib.contextmanager
def _onnx_runtime(path: Path) -> Iterator[Runtime]:
    from tlkeras.runtime import OnnxClassifier

    yield Runtime(OnnxClassifier.load(path).run)


@contextlib.contextmanager
def _openvino(path: Path) -> Iterator[Runtime]:
    import numpy as np
    import openvino

    try:
        model = openvino.Core().read_model(path)
        # Left to itself OpenVINO computes in bf16 on CPUs that have it.
        options = {openvino.properties.hint.inference_precision: openvino.Type.f32}
        compiled = openvino.Core().compile_model(model, "CPU", options)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        raise ExportError(f"OpenVINO refuses '{path.name}' ({lines[-1][:200]})") from None

    def run(pixels: np.ndarray) -> Answer:
        found = compiled(pixels)
        return {output.get_any_name(): np.array(found[output]) for output in compiled.outputs}

    yield Runtime(run)


def _as_text(answer: Answer) -> Answer:
    """TensorFlow's strings are bytes; class names are text."""
    import numpy as np

    classes = answer["classes"]
    decoded = np.array([name.decode() for name in classes.ravel()], object).reshape(classes.shape)
    return {**answer, "classes": decoded}
