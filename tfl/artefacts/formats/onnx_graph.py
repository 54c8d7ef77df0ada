"""TensorFlow's functions in ONNX, by tf2onnx."""

from collections.abc import Sequence
from typing import Any

from tfl.machine.packages import require_package

OPSET = 18


def convert_function(function: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """Return a concrete function of TensorFlow as an ONNX model.

    Args:
      inputs: the names of its arguments, which the model's inputs get.
      outputs: the names that the model's outputs get, in the function's own order.
    """
    tf2onnx = require_package("tf2onnx", "onnx")
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # tf2onnx freezes variables too, but takes a constant that Keras made outside the graph for an
    # input.
    frozen = convert_variables_to_constants_v2(function)
    input_names = [f"{name}:0" for name in inputs]
    output_names = [each.name for each in frozen.outputs]
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name="tfl",
        input_names=input_names,
        output_names=output_names,
        tensors_to_rename=dict(zip([*input_names, *output_names], [*inputs, *outputs], strict=True)),
        opset=OPSET,
    )
    return model
