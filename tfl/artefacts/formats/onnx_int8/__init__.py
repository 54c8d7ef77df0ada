"""An int8 network in ONNX: the network that made the features, between resizing and a head.

An activation that is rounded becomes a QuantizeLinear and a DequantizeLinear ("QDQ"); weights and
biases stay integers, each with a DequantizeLinear behind it. ONNX Runtime computes what lies between
in integers.
"""

from typing import Any

import numpy as np

from tfl.artefacts.formats.onnx_graph import OPSET, convert_function
from tfl.artefacts.formats.onnx_int8.nodes import translate
from tfl.artefacts.formats.onnx_int8.translation import Translation
from tfl.machine.packages import require_package

PIXELS, FEATURES, COUNT = "pixels", "features", "count"
NUM_ROWS = "rows"  # the name of the axis of rows


def convert_network(network: Any, columns: np.ndarray | None = None) -> Any:
    """Return an int8 network as an ONNX model, `pixels (n, size, size, 3)` to `features (n, d)`.

    Args:
      network: OpenVINO's model, as `tfl.engine.int8.read_network` returns it.
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


def join(presentation: Any, network: Any, num_views: int, head: Any) -> Any:
    """Return the ONNX model of images, uint8 `(n, h, w, 3)`, with the outputs of every format.

    Args:
      presentation: Keras' model of `images` to pixels, view after view `(v * n, size, size, 3)`.
      network: as `convert_network` returns it.
      head: Keras' model of features, the mean over the views, to logits `(n, c)`.
    """
    onnx = require_package("onnx", "onnx")
    from tfl.artefacts.formats import graph

    first = convert_function(_trace_presentation(presentation), ["images"], [COUNT, PIXELS])
    last = convert_function(_trace_head(head, num_views), [FEATURES, COUNT], graph.OUTPUTS)
    network.ir_version = last.ir_version = first.ir_version
    parts = [
        onnx.compose.add_prefix(part, f"{name}/", rename_inputs=False, rename_outputs=False)
        for name, part in (("images", first), ("network", network), ("head", last))
    ]
    front = onnx.compose.merge_models(*parts[:2], io_map=[(PIXELS, PIXELS)], outputs=[FEATURES, COUNT])
    whole = onnx.compose.merge_models(front, parts[2], io_map=[(FEATURES, FEATURES), (COUNT, COUNT)])
    _name_opsets_once(whole)
    return whole


def _name_opsets_once(model: Any) -> None:
    """Remove from a merged model's sets of operations those that it names again."""
    versions = {each.domain: each for each in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(versions.values())


def _trace_presentation(presentation: Any) -> Any:
    """Return a concrete function of images: how many there are, and pixels, of one black image if there is none."""
    import tensorflow as tf

    from tfl.artefacts.formats import graph

    @tf.function(input_signature=[graph.IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def present(images: Any) -> dict[str, Any]:
        return {COUNT: tf.shape(images)[0], PIXELS: presentation(graph.pad_empty(images))}

    return present.get_concrete_function()


def _trace_head(head: Any, num_views: int) -> Any:
    """Return a concrete function of features, view after view, and how many images to answer for."""
    import tensorflow as tf

    from tfl.artefacts.formats import graph

    num_features = head.input_shape[-1]
    signature = [
        tf.TensorSpec((None, num_features), tf.float32, name=FEATURES),
        tf.TensorSpec((), tf.int32, name=COUNT),
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def answer(features: Any, count: Any) -> dict[str, Any]:
        by_view = tf.reshape(features, (num_views, -1, num_features))  # (v, m, d)
        mean = tf.reduce_mean(by_view, axis=0)  # (m, d)
        return graph.answers_of(head(mean)[:count])

    return answer.get_concrete_function()
