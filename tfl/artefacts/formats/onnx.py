"""ONNX, for ONNX Runtime, converted from TensorFlow's graph by tf2onnx."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfl.artefacts.combined import Combined
from tfl.artefacts.formats import graph
from tfl.machine.packages import require_package

OPSET = 18
LEAST_VALUES = 1024  # of a tensor that is worth being stored in float16


def save(combined: Combined, path: Path, is_float16: bool) -> None:
    """Write the file: input `images`, outputs as every format has; class names in its metadata, as JSON."""
    tf2onnx = require_package("tf2onnx", "onnx")
    onnx = require_package("onnx", "onnx")
    require_package("onnxruntime", "onnx")  # what the gate needs
    # tf2onnx freezes too, but takes a constant that Keras made outside the graph for an input.
    function = convert_variables_to_constants_v2(graph.traced(combined))
    outputs = [each.name for each in function.outputs]
    model, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(),
        name="tfl",
        input_names=["images:0"],
        output_names=outputs,
        tensors_to_rename={"images:0": "images", **dict(zip(outputs, graph.OUTPUTS, strict=True))},
        opset=OPSET,
    )
    if is_float16:
        _round(model, onnx)
    onnx.helper.set_model_props(model, {"class_names": json.dumps(combined.class_names)})
    onnx.save(model, path)


def _round(model: Any, onnx: Any) -> None:
    """Weights to float16, and a Cast behind each; ONNX Runtime carries the Casts out once, when it opens the file."""
    large = [
        each
        for each in model.graph.initializer
        if each.data_type == onnx.TensorProto.FLOAT and np.prod(each.dims) >= LEAST_VALUES
    ]
    casts = []
    for tensor in large:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        casts.append(
            onnx.helper.make_node("Cast", [f"{tensor.name}:float16"], [tensor.name], to=onnx.TensorProto.FLOAT)
        )
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, f"{tensor.name}:float16"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
