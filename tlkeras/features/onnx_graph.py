"""A TensorFlow function as an ONNX model that runtimes accept."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from typing import Any

OPSET = 18  # the newest that tf2onnx 1.17 writes


def convert(function: Callable[..., Any], signature: list[Any]) -> Any:
    """Convert a ``tf.function`` with ``signature`` (list of ``tf.TensorSpec``) to an ``onnx.ModelProto``.

    The converter leaves graph inputs behind that no node reads, which runtimes refuse; they are dropped and
    the model is checked.

    Raises: ValueError when the converter cannot express the function or the result is not valid ONNX.
    """
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    try:
        # The converter prints what it optimised; standard output belongs to the commands' own results.
        with contextlib.redirect_stdout(io.StringIO()):
            model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    # tf2onnx reports what it cannot convert with whichever exception it runs into.
    except Exception as error:
        raise ValueError(f"tf2onnx cannot convert the network ({type(error).__name__}: {error})") from error
    read = {name for node in model.graph.node for name in node.input} | {out.name for out in model.graph.output}
    kept = [value for value in model.graph.input if value.name in read]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"tf2onnx wrote a model that is not valid ONNX ({error})") from error
    return model
