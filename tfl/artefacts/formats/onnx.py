"""ONNX, for ONNX Runtime, converted from TensorFlow's graph by tf2onnx."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfl.artefacts.combined import Combined
    from tfl.artefacts.formats.format import Answer, Format, ReadImages

LEAST_VALUES = 1024  # of a tensor that is worth storing in float16

CALL = """import onnxruntime

session = onnxruntime.InferenceSession("MODEL/model.onnx")
class_index, logits, probabilities = session.run(["class_index", "logits", "probabilities"], {"images": images})
class_names = session.get_modelmeta().custom_metadata_map["class_names"]  # JSON"""

SAFETY = "Opening it runs no code of the file: it is data, and ONNX Runtime loads no library that it names."


def make_format() -> "Format":
    """Return the record of this format."""
    from tfl.artefacts.formats.format import FLOAT16, FLOAT32, Format, Tolerance

    return Format(
        name="onnx",
        summary="ONNX",
        file="model.onnx",
        save=save,
        open_model=open_model,
        call=CALL,
        safety=SAFETY,
        packages=("tf2onnx", "onnx", "onnxruntime"),
        extra="onnx",
        quantizations=(FLOAT32, FLOAT16),
        is_traced_by_tensorflow=True,
        needs_portable_resizing=True,
        takes_empty_batch=True,
        compute_dtypes=("float32", "float16", "int8"),
        # ONNX Runtime rounds the sums of residual blocks once more than OpenVINO: 5 % in ResNet50's logits.
        tolerances={"int8": Tolerance(0.15, least_same_class=0.9)},
    )


def save(combined: "Combined", path: Path, quantize: str, read_images: "ReadImages") -> None:
    """Write the file: input `images` or `features`, outputs as in every format; class names as JSON in its metadata."""
    from tfl.machine.packages import require_package

    onnx = require_package("onnx", "onnx")
    require_package("onnxruntime", "onnx")  # the fresh process needs it
    from tfl.artefacts.formats import graph, onnx_graph

    if combined.quantized is not None:
        model = _join_int8(combined)
    else:
        model = onnx_graph.convert_function(graph.trace(combined), [combined.takes.name], graph.OUTPUTS)
    if quantize == "float16":
        _round_weights(model, onnx)
    onnx.helper.set_model_props(model, {"class_names": json.dumps(combined.class_names)})
    onnx.save(model, path)


def _join_int8(combined: "Combined") -> Any:
    """Return images to answers, with the int8 network that computed the cached features inside."""
    from tfl.artefacts.formats import onnx_int8
    from tfl.engine.int8 import read_quantized

    assert combined.quantized is not None
    network = onnx_int8.convert_network(read_quantized(combined.quantized), combined.quantized.quantized_columns)
    return onnx_int8.join(combined, network)


def _round_weights(model: Any, onnx: Any) -> None:
    """Store weights in float16 with a Cast behind each, which ONNX Runtime carries out once, when it opens the file."""
    import numpy as np

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_VALUES:
            continue
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        stored = f"{tensor.name}:float16"
        casts.append(onnx.helper.make_node("Cast", [stored], [tensor.name], to=onnx.TensorProto.FLOAT))
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, stored))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def open_model(path: Path) -> "Answer":
    """Open the file with ONNX Runtime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    (taken,) = session.get_inputs()
    return lambda batch: dict(zip(names, session.run(names, {taken.name: batch}), strict=True))
