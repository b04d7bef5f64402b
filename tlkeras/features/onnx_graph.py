"""A TensorFlow function as an ONNX model that runtimes accept."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

OPSET = 18  # the newest that tf2onnx 1.17 writes
_SWITCH = threading.Lock()


def convert(function: Callable[..., Any], signature: list[Any]) -> Any:
    """Convert a ``tf.function`` with ``signature`` (list of named ``tf.TensorSpec``) to an ``onnx.ModelProto``.

    Inputs are called as in the signature; outputs by their keys where the function returns a dict.

    Raises: ValueError when the converter cannot express the function or the result is not valid ONNX.
    """
    import onnx
    import tf2onnx

    try:
        graph_def, inputs, outputs = _frozen(function, signature)
        with _quiet():
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def,
                input_names=list(inputs),
                output_names=list(outputs),
                tensors_to_rename={**inputs, **outputs},
                opset=OPSET,
                custom_op_handlers={"Erfc": (_erfc, [])},
            )
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"tf2onnx wrote a model that is not valid ONNX ({error})") from error
    # tf2onnx reports what it cannot convert with whichever exception it runs into.
    except Exception as error:
        raise ValueError(f"tf2onnx cannot convert the network ({type(error).__name__}: {error})") from error
    return model


def _frozen(function: Any, signature: list[Any]) -> tuple[Any, dict[str, str], dict[str, str]]:
    """The function as a GraphDef without variables, and its inputs and outputs: tensor name -> name in ONNX.

    tf2onnx's own ``from_function`` takes arrays that a layer holds outside of variables (the statistics of a
    Normalization layer) for inputs of the model; here they are constants, as they should be.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def freeze(traced: Any) -> Any:
        return convert_variables_to_constants_v2(traced, lower_control_flow=False, aggressive_inlining=True)

    concrete = function.get_concrete_function(*signature)
    frozen = freeze(concrete)
    if any("PartitionedCall" in node.op for node in frozen.graph.as_graph_def().node):
        with _inlined():
            concrete = tf.function(function.python_function).get_concrete_function(*signature)
        frozen = freeze(concrete)
    inputs = {tensor.name: spec.name for tensor, spec in zip(concrete.inputs, signature, strict=False)}
    structure = concrete.structured_outputs
    names = sorted(structure) if isinstance(structure, dict) else [f"output_{i}" for i in range(len(frozen.outputs))]
    outputs = {tensor.name: name for tensor, name in zip(frozen.outputs, names, strict=True)}
    return frozen.graph.as_graph_def(add_shapes=True), inputs, outputs


@contextlib.contextmanager
def _inlined() -> Iterator[None]:
    """While a function is traced in here, the functions that it calls become part of its own graph.

    Keras wraps grouped convolutions (ConvNeXt's depthwise ones) in a function that is compiled by XLA, which
    freezing does not look into; inlined, they are ordinary convolutions.
    """
    import tensorflow as tf

    # The switch is the whole process's: two at once would not leave it as they found it.
    with _SWITCH:
        before = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's prints, which would land among a command's results, and its notes on old interfaces."""
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _erfc(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Express erfc(x), which ONNX lacks and TensorFlow's exact GELU has, as 1 − erf(x)."""
    node.type, node.domain = "Erf", ""
    one = context.make_const(f"{name}_one", np.array(1, np.float32)).output[0]
    context.insert_new_node_on_output("Sub", node.output[0], inputs=[one, node.output[0]])
