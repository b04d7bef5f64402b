"""What stands beside the graph of a SavedModel, and classifiers with a mirrored view and other options."""

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from tests.networks import small_classifier
from tests.pictures import encode, photo, with_orientation
from tlkeras.errors import ConfigError
from tlkeras.export.cpp_loader import CppLoader
from tlkeras.export.saved_model import BATCH_SIZES, BATCHING_FILE, LABELS_FILE, WARM_UP_FILE, write_saved_model

NAMES = ("grün", "blue sky", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def mirrored():
    return small_classifier(NAMES, fit="crop", mirror=True)


@pytest.fixture(scope="module")
def folder(mirrored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    write_saved_model(mirrored, folder, default_signature="image_bytes", top_k=3)
    return folder


@pytest.fixture(scope="module")
def loader(folder):
    with CppLoader(folder) as loader:
        yield loader


FILES = [
    encode(photo(90, 40, 1), "JPEG"),
    with_orientation(photo(80, 50, 2), "JPEG", 5),
    encode(photo(31, 64, 3), "PNG"),
]


def test_a_mirrored_view_and_the_temperature_are_in_the_graph(mirrored, loader):
    answer = loader.run("serving_default", {"image_bytes": FILES})
    np.testing.assert_allclose(answer["probabilities"], mirrored.predict(FILES), atol=1e-5)
    logits = mirrored.logits(np.stack([mirrored.fitted(data) for data in FILES]))
    np.testing.assert_allclose(answer["logits"], logits, rtol=1e-4, atol=1e-4)
    # The same without the mirrored view or the temperature would not pass.
    assert np.abs(answer["probabilities"] - np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).max() > 1e-3


def test_the_best_classes_are_listed_best_first(loader):
    answer = loader.run("image_bytes", {"image_bytes": FILES})
    order = np.argsort(-answer["probabilities"], axis=1)[:, :3]
    np.testing.assert_array_equal(answer["class_indices"], order)
    assert [[name.decode() for name in row] for row in answer["classes"]] == [[NAMES[k] for k in row] for row in order]
    np.testing.assert_array_equal(answer["scores"], np.take_along_axis(answer["probabilities"], order, axis=1))


def test_labels_and_batching_parameters(folder):
    assert (folder / "assets" / LABELS_FILE).read_text().splitlines() == list(NAMES)
    text = (folder / BATCHING_FILE).read_text()
    parameters = text_format.Parse(text, _messages("BatchingParameters")())
    assert parameters.max_batch_size.value == max(BATCH_SIZES)
    # TensorFlow Serving wants the last allowed size to be the largest batch.
    assert list(parameters.allowed_batch_sizes) == list(BATCH_SIZES)
    assert parameters.batch_timeout_micros.value > 0
    assert parameters.max_enqueued_batches.value > 0


def test_warm_up_requests_are_what_serving_reads_and_each_can_be_played(folder, loader):
    import tensorflow as tf

    records = [record.numpy() for record in tf.data.TFRecordDataset(str(folder / WARM_UP_FILE))]
    assert 0 < len(records) <= 1000
    played = set()
    for record in records:
        request = _messages("PredictionLog").FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        (batch,) = inputs.values()
        answer = loader.run(request.model_spec.signature_name, inputs)
        assert len(answer["scores"]) == len(batch)
        played.add((request.model_spec.signature_name, len(batch)))
    assert played == {(name, size) for name in ("pixels", "image_bytes") for size in BATCH_SIZES}


def test_warm_up_requests_against_servings_own_protos(folder):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(str(folder / WARM_UP_FILE)):
        request = logs.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.signature_name in request.inputs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"default_signature": "pixel", "top_k": 1}, "did you mean 'pixels'"),
        ({"top_k": 0}, r"top_k must lie in 1\.\.6.*received 0"),
        ({"top_k": 7}, r"received 7"),
    ],
)
def test_options_that_cannot_be(options, words, mirrored, tmp_path):
    with pytest.raises(ConfigError, match=words):
        write_saved_model(mirrored, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def _messages(name):
    """Messages of TensorFlow Serving by its published field numbers, described here once more, independently."""
    from tensorflow.core.framework import tensor_pb2

    field = descriptor_pb2.FieldDescriptorProto
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto(
        name="tlkeras_test_serving.proto", package="tlkeras_test", syntax="proto3"
    )
    file.dependency.append(tensor_pb2.DESCRIPTOR.name)

    def message(title, *fields, parent=None):
        made = (parent.nested_type if parent is not None else file.message_type).add(name=title)
        for label, number, kind, type_name in fields:
            made.field.add(
                name=label.removesuffix("*"),
                number=number,
                type=kind,
                type_name=type_name or None,
                label=field.LABEL_REPEATED if label.endswith("*") else field.LABEL_OPTIONAL,
            )
        return made

    of = ".tlkeras_test."
    message("ModelSpec", ("name", 1, field.TYPE_STRING, ""), ("signature_name", 3, field.TYPE_STRING, ""))
    request = message(
        "PredictRequest",
        ("model_spec", 1, field.TYPE_MESSAGE, f"{of}ModelSpec"),
        ("inputs*", 2, field.TYPE_MESSAGE, f"{of}PredictRequest.InputsEntry"),
    )
    entry = message(
        "InputsEntry",
        ("key", 1, field.TYPE_STRING, ""),
        ("value", 2, field.TYPE_MESSAGE, ".tensorflow.TensorProto"),
        parent=request,
    )
    entry.options.map_entry = True
    message("PredictLog", ("request", 1, field.TYPE_MESSAGE, f"{of}PredictRequest"))
    message("PredictionLog", ("predict_log", 6, field.TYPE_MESSAGE, f"{of}PredictLog"))
    message("Number", ("value", 1, field.TYPE_INT64, ""))
    message(
        "BatchingParameters",
        ("max_batch_size", 1, field.TYPE_MESSAGE, f"{of}Number"),
        ("batch_timeout_micros", 2, field.TYPE_MESSAGE, f"{of}Number"),
        ("max_enqueued_batches", 3, field.TYPE_MESSAGE, f"{of}Number"),
        ("allowed_batch_sizes*", 6, field.TYPE_INT64, ""),
    )
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tlkeras_test.{name}"))
