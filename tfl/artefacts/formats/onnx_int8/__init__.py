"""An int8 network in ONNX: the network that made the features, between resizing and a head.

An activation that is rounded becomes a QuantizeLinear and a DequantizeLinear ("QDQ"); weights and
biases stay integers, each with a DequantizeLinear behind it. ONNX Runtime computes what lies between
in integers.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from tfl.artefacts.formats.onnx_graph import OPSET, convert_function
from tfl.artefacts.formats.onnx_int8.nodes import translate
from tfl.artefacts.formats.onnx_int8.translation import Translation
from tfl.machine.packages import require_package

if TYPE_CHECKING:
    from tfl.artefacts.combined import Combined

PIXELS, FEATURES = "pixels", "features"
NUM_ROWS = "rows"  # the name of the axis of rows


def convert_network(network: Any, columns: np.ndarray | None = None) -> Any:
    """Return an int8 network as an ONNX model, `pixels (n, size, size, 3)` to `features (n, d)`.

    Args:
      network: OpenVINO's model, as `tfl.engine.int8.read_quantized` returns it.
      columns: those of its output that make up a row of features, `(d,)`; None for all.

    Raises:
      ExportError: it has an operation that cannot be translated.
    """
    onnx = require_package("onnx", "onnx")
    into = Translation(onnx)
    into.names[f"{network.inputs[0].get_node().get_friendly_name()}:0"] = PIXELS
    result = network.outputs[0].get_node().input_value(0)
    for node in _list_needed(network, result):
        translate(node, into)
    features = into.use(result)
    if columns is not None:
        features = into.add("Gather", features, into.store(columns, np.int64), axis=1)
    into.nodes.append(onnx.helper.make_node("Identity", [features], [FEATURES], name=FEATURES))
    graph = onnx.helper.make_graph(
        [*into.dequantized, *into.nodes],
        "network",
        [_describe(PIXELS, network.inputs[0], onnx)],
        [onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, [NUM_ROWS, None])],
        into.tensors,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])


def _describe(name: str, output: Any, onnx: Any) -> Any:
    """Return the description of a tensor of float32 rows."""
    sizes = [size.get_length() for size in list(output.get_partial_shape())[1:]]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [NUM_ROWS, *sizes])


def _list_needed(network: Any, result: Any) -> list[Any]:
    """Return the nodes that an output is computed from, in order, without the input.

    Some networks return more than their features (EfficientNet's: what a gradient would need).
    """
    needed: set[str] = set()
    waiting = [result.get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() not in needed:
            needed.add(node.get_friendly_name())
            waiting += [source.get_node() for source in node.input_values()]
    needed.discard(network.inputs[0].get_node().get_friendly_name())
    return [node for node in network.get_ordered_ops() if node.get_friendly_name() in needed]


def join(combined: "Combined", network: Any) -> Any:
    """Return the ONNX model of images, uint8 `(n, h, w, 3)`, with the outputs of every format.

    Args:
      combined: of which this takes the presentation and the head.
      network: as `convert_network` returns it, for the features of one view.
    """
    onnx = require_package("onnx", "onnx")
    from tfl.artefacts.formats import graph

    (num_features,) = combined.head.input_shape[1:]
    first = convert_function(graph.trace_presentation(combined), ["images"], [PIXELS])
    last = convert_function(graph.trace_head(combined, num_features), [FEATURES, "images"], graph.OUTPUTS)
    parts = [_prefix(part, name, onnx) for name, part in (("images", first), ("network", network), ("head", last))]
    return _connect(parts, onnx)


def _prefix(model: Any, name: str, onnx: Any) -> Any:
    """Return a model whose names, but for those of inputs and outputs, are its own among others."""
    return onnx.compose.add_prefix(model, f"{name}/", rename_inputs=False, rename_outputs=False)


def _connect(parts: list[Any], onnx: Any) -> Any:
    """Return one model of several in a row: an output is the input of its name."""
    graphs = [part.graph for part in parts]
    whole = onnx.helper.make_graph(
        [node for graph in graphs for node in graph.node],
        "tfl",
        graphs[0].input,
        graphs[-1].output,
        [tensor for graph in graphs for tensor in graph.initializer],
    )
    opsets = {opset.domain: opset for part in parts for opset in part.opset_import}
    return onnx.helper.make_model(whole, opset_imports=list(opsets.values()), ir_version=parts[0].ir_version)
