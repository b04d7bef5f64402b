"""A TensorFlow function comes through the converter as it is, large matrices and all."""

import numpy as np
import pytest

from tlkeras import onnx_graph
from tlkeras.onnx_graph import APART_MIN_BYTES, convert

tf = pytest.importorskip("tensorflow")
SIZE = 600  # a square matrix of float32 is above APART_MIN_BYTES


def matrix(seed):
    return np.random.default_rng(seed).normal(0, SIZE**-0.5, (SIZE, SIZE)).astype(np.float32)


def dense(pixels, variable):
    return tf.matmul(pixels, variable)


def turned(pixels, variable):
    return tf.matmul(pixels, variable, transpose_b=True)


def used_twice(pixels, variable):
    return tf.matmul(pixels, variable) + tf.reduce_sum(variable, axis=0)


def first_of_two(pixels, variable):
    return tf.transpose(tf.matmul(variable, pixels, transpose_b=True))


@pytest.mark.parametrize(
    ("function", "apart"), [(dense, True), (turned, True), (used_twice, False), (first_of_two, False)]
)
def test_a_large_matrix_is_in_the_file_and_gives_the_same_answer(function, apart, monkeypatch):
    import onnx
    import onnxruntime

    seen = []
    inner = onnx_graph._set_apart
    monkeypatch.setattr(onnx_graph, "_set_apart", lambda graph: seen.append(inner(graph)) or seen[-1])
    assert 4 * SIZE**2 > APART_MIN_BYTES
    variable = tf.Variable(matrix(1))
    traced = tf.function(lambda pixels: function(pixels, variable))
    model = convert(traced, [tf.TensorSpec([None, SIZE], tf.float32, name="pixels")])
    assert bool(seen[0]) == apart
    onnx.checker.check_model(model, full_check=True)
    assert [given.name for given in model.graph.input] == ["pixels"]
    pixels = matrix(2)[:5]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"pixels": pixels})
    np.testing.assert_allclose(got, function(pixels, variable.numpy()).numpy(), rtol=0, atol=1e-5)
