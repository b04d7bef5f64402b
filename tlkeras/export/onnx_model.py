"""A trained classifier as one ONNX file: uint8 pixels of any size in, calibrated probabilities out.

The graph holds the resize, the preprocessing, the network and the softmax with its temperature; the decoding
of files stays outside, because ONNX has no operation for it. Classes come out as ``class_indices``, and their
names stand in the file's metadata: string tensors would tie the file to runtimes that have them (OpenVINO has
no string Gather), numbers are read by all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.errors import ExportError
from tlkeras.export.saved_model import OUTPUTS, answers, check_top_k
from tlkeras.runtime import FORMAT, FORMAT_VERSION
from tlkeras.storage import write_bytes

if TYPE_CHECKING:
    from tlkeras.trained import TrainedClassifier

INPUT_NAME = "pixels"
# Arrays below this size stay in fp32 in write_half: they hardly weigh, and axes and sizes are among them.
HALF_MIN_ELEMENTS = 1024
_PRECISION = "weights_precision"


def write_onnx(trained: TrainedClassifier, path: Path, *, top_k: int) -> None:
    """Write a classifier as an ONNX file (opset 18), atomically.

    Input ``pixels``: uint8 ``[N, H, W, 3]`` RGB in 0..255, upright, N, H and W dynamic. Outputs:
    ``probabilities`` float32 ``[N, C]``; ``class_indices`` int32 and ``scores`` float32 ``[N, top_k]``, the best
    first; ``logits`` float32 ``[N, C]``; ``features`` float32 ``[N, D]``. Class names, size, fit, temperature,
    licence and version are in ``metadata_props``, see ``metadata``. ``top_k``: 1 up to the number of classes.

    Raises: ConfigError for an impossible ``top_k``; ExportError when the network cannot be converted; StorageError.
    """
    check_top_k(top_k, len(trained.class_names))
    model = _convert(trained, top_k)
    _describe(model, metadata(trained, top_k=top_k))
    write_bytes(path, model.SerializeToString())


def write_half(whole: Path, path: Path) -> None:
    """Write what ``write_onnx`` wrote as ``whole`` once more, its large weights as float16: half the bytes.

    Each is cast back where it is used, so inputs, outputs and arithmetic stay float32. An array that float16 cannot
    hold (beyond ±65504) stays as it is. Raises: StorageError when the disk refuses.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(whole)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims, dtype=np.int64) < HALF_MIN_ELEMENTS:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    # In front of all nodes: a graph is stored in the order in which it can run.
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    next(entry for entry in model.metadata_props if entry.key == _PRECISION).value = "float16"
    write_bytes(path, model.SerializeToString())


def metadata(trained: TrainedClassifier, *, top_k: int) -> dict[str, str]:
    """What the file says of itself, as ``metadata_props`` holds it: strings, lists as JSON."""
    from tlkeras import __version__, backbones

    config = trained.config
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tlkeras_version": __version__,
        "class_names": json.dumps(config.class_names, ensure_ascii=False),
        "backbone": config.backbone,
        "size_px": str(config.size_px),
        "fit": config.fit,
        "mirror": json.dumps(config.mirror),
        "temperature": repr(config.temperature),
        "top_k": str(top_k),
        _PRECISION: "float32",
        "weights_licence": backbones.get(config.backbone).licence,
        "pixels": "uint8 [N, H, W, 3], RGB in 0..255, upright (EXIF orientation undone)",
    }


def _convert(trained: TrainedClassifier, top_k: int) -> Any:
    import tensorflow as tf

    from tlkeras.images.graph import fit_by_matrix
    from tlkeras.onnx_graph import convert

    config = trained.config

    def answer(pixels: Any) -> dict[str, Any]:
        return answers(trained, fit_by_matrix(tf.cast(pixels, tf.float32), config.size_px, config.fit), top_k)

    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8, name=INPUT_NAME)]
    try:
        return convert(tf.function(answer), signature)
    except ValueError as error:
        raise ExportError(
            f"{config.backbone} cannot be written as ONNX ({error})", next_step="Export it as a SavedModel."
        ) from error


def _describe(model: Any, properties: dict[str, str]) -> None:
    """Add metadata, put the outputs in their order and give dimensions the names that the documentation uses."""
    from onnx import helper

    from tlkeras import __version__

    outputs = {output.name: output for output in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(outputs[name] for name in OUTPUTS)
    sides = ("N", "H", "W")
    for value in (*model.graph.input, *model.graph.output):
        for name, dimension in zip(sides, value.type.tensor_type.shape.dim, strict=False):
            if not dimension.HasField("dim_value"):
                dimension.dim_param = name
    model.graph.name = "tlkeras_classifier"
    model.producer_name, model.producer_version = "tlkeras", __version__
    model.doc_string = "Image classifier: RGB pixels in, calibrated probabilities out; class names in the metadata."
    helper.set_model_props(model, properties)
