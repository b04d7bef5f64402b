"""A classifier as a SavedModel for TensorFlow Serving: from the image file's bytes to class names, all in the graph.

Signatures, each answering with the outputs of :func:`answers`, which other formats share, and ``classes``, strings
``[N, top_k]`` with the names of ``class_indices``:

- ``image_bytes``: string ``[N]``, each an encoded JPEG, PNG, GIF, BMP or WebP of any size;
- ``pixels``: uint8 ``[N, H, W, 3]`` RGB, upright, any H and W;
- ``serving_default``: one of the two.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.engines import features_of
from tlkeras.errors import ConfigError, StorageError, unknown
from tlkeras.storage import write_bytes
from tlkeras.trained import TrainedClassifier

OUTPUTS = ("probabilities", "class_indices", "scores", "logits", "features")
SIGNATURES = ("pixels", "image_bytes")
LABELS_FILE = "labels.txt"
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
BATCHING_FILE = "batching_params.pbtxt"
# Batch sizes that a server pads to, and that the warm-up requests have, so that none is met for the first time.
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_WARM_UP_PX = 48

_Answering = Callable[[Any], dict[str, Any]]


def answers(trained: TrainedClassifier, fitted: Any, top_k: int) -> dict[str, Any]:
    """What every format answers, as TensorFlow operations: the outputs by the names in ``OUTPUTS``, in that order.

    ``fitted``: float32 ``[N, S, S, 3]`` in 0..255. Returns ``probabilities`` float32 ``[N, C]``, calibrated;
    ``class_indices`` int32 ``[N, top_k]``, the most probable class first, and their ``scores`` float32
    ``[N, top_k]``; ``logits`` float32 ``[N, C]``; ``features`` float32 ``[N, D]``, what the head saw.
    """
    import tensorflow as tf

    backbone = trained.network.get_layer("backbone")
    features = features_of(lambda pixels: backbone(pixels, training=False), fitted, trained.config.mirror)
    logits = trained.head(features, training=False)
    probabilities = tf.nn.softmax(logits / trained.config.temperature)
    scores, indices = tf.math.top_k(probabilities, top_k)
    return dict(zip(OUTPUTS, (probabilities, tf.cast(indices, tf.int32), scores, logits, features), strict=True))


def check_top_k(top_k: int, classes: int) -> None:
    """Raise ConfigError unless ``top_k`` lies in 1..``classes``."""
    if not 1 <= top_k <= classes:
        raise ConfigError(f"top_k must lie in 1..{classes}, the number of classes", received=top_k)


def write_saved_model(
    trained: TrainedClassifier, folder: Path, *, default_signature: str = "pixels", top_k: int
) -> None:
    """Write a SavedModel into ``folder``, with labels, warm-up requests and batching parameters.

    ``default_signature``: which of ``SIGNATURES`` is also called ``serving_default``. ``top_k``: how many
    classes and scores are listed, at most all.

    Raises: ConfigError for another signature or a ``top_k`` outside 1..K; StorageError.
    """
    import keras
    import tensorflow as tf

    from tlkeras.images.graph import fit_to_square, fitted_batch

    if default_signature not in SIGNATURES:
        raise unknown("signature", default_signature, SIGNATURES)
    check_top_k(top_k, len(trained.class_names))
    answer = _answering(trained, top_k)
    pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels")
    image_bytes = tf.TensorSpec([None], tf.string, name="image_bytes")
    served = {
        "pixels": (pixels, fit_to_square, "pixels must hold at least one image with at least one row and column"),
        "image_bytes": (image_bytes, fitted_batch, "image_bytes must hold at least one image file"),
    }
    # Without track(): the archive finds the variables through its endpoints, and stores them twice if told again.
    archive = keras.export.ExportArchive()
    # The endpoint that is added first is the one that Keras also calls serving_default.
    for name in sorted(SIGNATURES, key=lambda name: name != default_signature):
        spec, fit, rule = served[name]
        archive.add_endpoint(name, _endpoint(trained, answer, fit, rule), input_signature=[spec])
    warm_up = folder / WARM_UP_FILE
    warm_up.parent.mkdir()
    try:
        archive.write_out(str(folder), verbose=False)
        with tf.io.TFRecordWriter(str(warm_up)) as writer:
            for record in _warm_up_records(trained.config.size_px):
                writer.write(record)
    # TensorFlow's own file system has its own errors.
    except tf.errors.OpError as error:
        # "{{node …}} FILE; REASON [Op:SaveV2]"
        reason = str(error.message).splitlines()[0].rpartition("; ")[2].partition(" [Op:")[0]
        raise StorageError(
            f"cannot write '{folder}' ({reason})", next_step="Free some space, or check the folder's permissions."
        ) from None
    write_bytes(folder / "assets" / LABELS_FILE, labels_text(trained).encode())
    write_bytes(folder / BATCHING_FILE, _batching_parameters().encode())


def labels_text(trained: TrainedClassifier) -> str:
    """The class names, a line each, in the order of probabilities."""
    return "".join(f"{name}\n" for name in trained.class_names)


def _answering(trained: TrainedClassifier, top_k: int) -> _Answering:
    """Fitted pixels to answers, as one function that all signatures call: the network is traced and stored once."""
    import tensorflow as tf

    def answer(fitted: Any) -> dict[str, Any]:
        found = answers(trained, fitted, top_k)
        return {**found, "classes": tf.gather(tf.constant(trained.class_names), found["class_indices"])}

    size_px = trained.config.size_px
    return tf.function(answer, input_signature=[tf.TensorSpec([None, size_px, size_px, 3], tf.float32)])


def _endpoint(trained: TrainedClassifier, answer: _Answering, fit: Callable[..., Any], rule: str) -> _Answering:
    def endpoint(batch: Any) -> dict[str, Any]:
        return answer(fit(_not_empty(batch, rule), trained.config.size_px, trained.config.fit))

    return endpoint


def _not_empty(batch: Any, rule: str) -> Any:
    """The tensor itself, once the graph has refused one without elements by the rule that it breaks."""
    import tensorflow as tf

    with tf.control_dependencies([tf.debugging.Assert(tf.size(batch) > 0, [rule])]):
        return tf.identity(batch)


def _batching_parameters() -> str:
    """TensorFlow Serving's BatchingParameters in text form, read with ``--enable_per_model_batching_parameters``."""
    sizes = "".join(f"allowed_batch_sizes: {size}\n" for size in BATCH_SIZES)
    return (
        f"max_batch_size {{ value: {BATCH_SIZES[-1]} }}\n"
        "batch_timeout_micros { value: 2000 }\n"
        "max_enqueued_batches { value: 64 }\n" + sizes
    )


def _warm_up_records(size_px: int) -> Iterator[bytes]:
    """PredictionLog messages (``prediction_log.proto`` of TensorFlow Serving), each one request to be played.

    They hold no photo: the pictures are a ramp of colours. Every format that the graph decodes is among them.
    """
    import tensorflow as tf

    side = min(size_px, _WARM_UP_PX)
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    picture = np.stack([*np.meshgrid(ramp, ramp), np.full((side, side), 128, np.uint8)], axis=-1)
    encoded = _encoded(picture)
    for count in BATCH_SIZES:
        batches = {"pixels": np.repeat(picture[np.newaxis], count, axis=0)}
        batches["image_bytes"] = np.array([encoded[i % len(encoded)] for i in range(count)], object)
        for name, batch in batches.items():
            entry = _field(1, name.encode()) + _field(2, tf.make_tensor_proto(batch).SerializeToString())
            # PredictRequest: model_spec = 1 (ModelSpec: signature_name = 3), inputs = 2 (a map).
            request = _field(1, _field(3, name.encode())) + _field(2, entry)
            # PredictionLog: predict_log = 6 (PredictLog: request = 1).
            yield _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """Bytes, text or a message as a field of a protocol buffer (https://protobuf.dev/programming-guides/encoding).

    By hand, because the messages around TensorFlow's own come with TensorFlow Serving's package, which few have.
    """
    size = len(content)
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def _encoded(picture: np.ndarray) -> list[bytes]:
    from PIL import Image

    from tlkeras.images.decode import SERVED_FORMATS
    from tlkeras.images.header import EXIF_TAG

    image = Image.fromarray(picture)
    exif = Image.Exif()
    exif[EXIF_TAG] = 6
    files = []
    for kind in SERVED_FORMATS:
        buffer = io.BytesIO()
        image.save(buffer, kind.upper(), **({"exif": exif} if kind == "jpeg" else {}))
        files.append(buffer.getvalue())
    return files
