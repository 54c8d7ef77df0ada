"""OpenVINO's IR: `model.xml`, the graph, and `model.bin`, the weights."""

from pathlib import Path

from tfl.artefacts.combined import Combined
from tfl.artefacts.formats import graph
from tfl.engine.openvino import hide_telemetry
from tfl.machine.packages import require_package


def save(combined: Combined, path: Path, is_float16: bool) -> None:
    """Write both files: input `images`, outputs as every format has; class names under `rt_info`."""
    with hide_telemetry():
        openvino = require_package("openvino", "openvino")
    model = openvino.convert_model(graph.traced(combined))
    for output, name in zip(model.outputs, graph.OUTPUTS, strict=True):
        output.set_names({name})
    model.set_rt_info(list(combined.class_names), ["tfl", "class_names"])
    openvino.save_model(model, path, compress_to_fp16=is_float16)
