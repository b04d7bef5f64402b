"""An exported ONNX classifier without TensorFlow: onnxruntime, Pillow and NumPy are all that it needs.

>>> from tlkeras.runtime import OnnxClassifier                          # doctest: +SKIP
>>> OnnxClassifier.load("export/models/pets/1").predict("cat.jpg")       # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tlkeras.errors import ClassifierError, ConfigError, ImageError
from tlkeras.heads.logits import ranked
from tlkeras.images.arrays import as_uint8
from tlkeras.images.decode import decode, read_bytes
from tlkeras.json_csv import parse_json

MODEL_FILE = "model.onnx"
HALF_FILE = "model_half.onnx"
FORMAT, FORMAT_VERSION = "tlkeras-onnx", "1"


class OnnxClassifier:
    """A classifier that ``tlkeras export`` wrote as ONNX, run by ONNX Runtime.

    ``metadata``: what the file says of itself, as strings. ``class_names``: in the order of probabilities.
    """

    def __init__(self, session: onnxruntime.InferenceSession, source: str = "the model") -> None:
        self.session = session
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self.class_names = _checked_class_names(self.metadata, session, source)
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    @classmethod
    def load(
        cls, path: str | Path, *, threads: int | None = None, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> OnnxClassifier:
        """Load an ``.onnx`` file, or the one in a version folder (``model.onnx``, else ``model_half.onnx``).

        ``threads``: for one image at a time; all cores by default. ``providers``: of ONNX Runtime.

        Raises: ClassifierError when there is none, it cannot be read, or tlkeras did not write it; ConfigError for a
        provider that this ONNX Runtime lacks.
        """
        file = find(path)
        for provider in providers:
            if provider not in onnxruntime.get_available_providers():
                raise ConfigError(
                    f"this ONNX Runtime has no {provider}",
                    received=", ".join(onnxruntime.get_available_providers()),
                    next_step="Install the build of onnxruntime that has it.",
                )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(file, options, providers=list(providers))
        # ONNX Runtime has an exception class for every status, without a common parent of its own.
        except Exception as error:
            raise ClassifierError(
                f"'{file}' cannot be loaded by ONNX Runtime ({_first_line(error)})", next_step="Export again."
            ) from None
        return cls(session, f"'{file}'")

    @property
    def size_px(self) -> int:
        """Side of the square that the graph makes of an image."""
        return int(self.metadata["size_px"])

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Answer a batch of images of one size: uint8 ``[N, H, W, 3]`` RGB in 0..255, upright.

        Returns ``probabilities`` and ``logits`` float32 ``[N, C]``, ``features`` float32 ``[N, D]``; of the best
        classes ``classes`` (strings), ``class_indices`` int32 and ``scores`` float32, each ``[N, k]``, k as exported.

        Raises: ConfigError for another shape or type.
        """
        pixels = np.asarray(pixels)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape:
            raise ConfigError(
                "pixels must be uint8 [N, H, W, 3], none of them 0", received=f"{pixels.dtype} {list(pixels.shape)}"
            )
        values = self.session.run(self._outputs, {self._input: np.ascontiguousarray(pixels)})
        answers = dict(zip(self._outputs, values, strict=True))
        answers["classes"] = np.array(self.class_names)[answers["class_indices"]]
        return answers

    def predict_proba(self, images: Any) -> np.ndarray:
        """Calibrated probabilities float32 ``[N, C]``.

        ``images``: one image or a sequence of them, each a path, the bytes of an image file, an array ``[H, W, 3]``
        of whole numbers in 0..255, or a Pillow image. They may differ in size and run one after the other.

        Raises: ImageError, naming the image, for one that cannot be decoded; ConfigError for an unusable array.
        """
        rows = [self.run(pixels[None])["probabilities"][0] for pixels in self._pixels(images)]
        return np.stack(rows) if rows else np.empty((0, len(self.class_names)), np.float32)

    def predict(self, images: Any, top: int = 3) -> list[dict[str, Any]]:
        """The best classes of each image (see ``predict_proba``): ``{"label", "probability", "top": [the same, …]}``.

        Raises: as ``predict_proba``; ConfigError for ``top`` below 1.
        """
        if top < 1:
            raise ConfigError("top must be at least 1", received=top)
        answers = []
        for row in self.predict_proba(images):
            best = [{"label": self.class_names[k], "probability": float(row[k])} for k in ranked(row, top)]
            answers.append({**best[0], "top": best})
        return answers

    def _pixels(self, images: Any) -> Iterator[np.ndarray]:
        for index, image in enumerate(_listed(images)):
            try:
                if isinstance(image, str | Path):
                    yield decode(read_bytes(image)).pixels
                elif isinstance(image, bytes | bytearray | memoryview):
                    yield decode(bytes(image)).pixels
                else:
                    yield as_uint8(image)
            except ImageError as error:
                raise error.of(image, index) from None


def find(path: str | Path) -> Path:
    """The ``.onnx`` file: the one given, or the one in a version folder.

    Raises: ClassifierError when there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for name in (MODEL_FILE, HALF_FILE):
        if (path / name).is_file():
            return path / name
    what = f"it holds no {MODEL_FILE}" if path.is_dir() else "there is no such file or folder"
    raise ClassifierError(
        f"'{path}' is no exported ONNX classifier: {what}",
        next_step="'tlkeras export RUN --to DIR' writes DIR/NAME/1/model.onnx.",
    )


def _listed(images: Any) -> Sequence[Any]:
    single = isinstance(images, str | Path | bytes | bytearray | memoryview) or hasattr(images, "getexif")
    if single or (isinstance(images, np.ndarray) and images.ndim <= 3):
        return [images]
    return images if isinstance(images, Sequence) else list(images)


def _checked_class_names(metadata: dict[str, str], session: Any, source: str) -> tuple[str, ...]:
    if metadata.get("format") != FORMAT:
        raise ClassifierError(f"{source} was not written by tlkeras: its metadata lack format={FORMAT}")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ClassifierError(
            f"{source} has format version {metadata.get('format_version')}, this tlkeras reads {FORMAT_VERSION}",
            next_step="Update tlkeras, or export again.",
        )
    try:
        names = parse_json(metadata["class_names"], [str], what="class_names")
        int(metadata["size_px"])
    except (KeyError, ValueError) as error:
        raise ClassifierError(f"{source} has metadata that cannot be used ({error})") from None
    shapes = {output.name: output.shape for output in session.get_outputs()}
    if shapes.get("probabilities", [None])[-1] != len(names) or "class_indices" not in shapes:
        raise ClassifierError(f"{source} does not answer with probabilities of its {len(names)} classes")
    return tuple(names)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
