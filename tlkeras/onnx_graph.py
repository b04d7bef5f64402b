"""A TensorFlow function as an ONNX model that runtimes accept."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

OPSET = 18  # the newest that tf2onnx 1.17 writes
APART_MIN_BYTES = 2**20
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
        apart = _set_apart(graph_def)
        with _quiet():
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def,
                input_names=[*inputs, *(f"{name}:0" for name in apart)],
                output_names=list(outputs),
                tensors_to_rename={**inputs, **outputs, **{f"{name}:0": name for name in apart}},
                opset=OPSET,
                custom_op_handlers={"Erfc": (_erfc, [])},
            )
        _put_back(model, apart)
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
    if any("_XlaMustCompile" in inner.attr for inner in concrete.graph.as_graph_def().library.function):
        with _inlined():
            concrete = tf.function(function.python_function).get_concrete_function(*signature)
    frozen = freeze(concrete)
    inputs = {tensor.name: spec.name for tensor, spec in zip(concrete.inputs, signature, strict=False)}
    structure = concrete.structured_outputs
    names = sorted(structure) if isinstance(structure, dict) else [f"output_{i}" for i in range(len(frozen.outputs))]
    outputs = {tensor.name: name for tensor, name in zip(frozen.outputs, names, strict=True)}
    return frozen.graph.as_graph_def(add_shapes=True), inputs, outputs


def _set_apart(graph_def: Any) -> dict[str, np.ndarray]:
    """Make the large matrices of a frozen graph its inputs, in place, and return them: name -> values.

    The converter copies all weights some twenty times, which for ConvNeXt-Large (0.8 GB) takes more than 20 GB. It
    leaves a matrix that is only multiplied by as it is, so it need not see it; a convolution's kernel it turns round.
    """
    import tensorflow as tf

    # What was read from a variable is passed on by an Identity.
    origin = {node.name: node.input[0] for node in graph_def.node if node.op == "Identity"}
    users: dict[str, set[str]] = {}
    for node in graph_def.node:
        for place, name in enumerate(node.input):
            if node.op != "Identity":
                users.setdefault(origin.get(name, name), set()).add(f"{node.op} {place}")
    apart = {}
    for node in graph_def.node:
        if node.op != "Const" or users.get(node.name) != {"MatMul 1"}:
            continue
        tensor = node.attr["value"].tensor
        if tensor.ByteSize() < APART_MIN_BYTES:
            continue
        apart[node.name] = tf.make_ndarray(tensor)
        node.op = "Placeholder"
        node.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
        del node.attr["value"]
    return apart


def _put_back(model: Any, apart: dict[str, np.ndarray]) -> None:
    """Turn inputs of a converted model back into the matrices that they stand for."""
    from onnx import numpy_helper

    inputs = [given for given in model.graph.input if given.name not in apart]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in apart.items())


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
