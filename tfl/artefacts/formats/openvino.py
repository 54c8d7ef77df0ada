"""OpenVINO's IR: `model.xml`, the graph, and `model.bin`, the weights."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfl.artefacts.combined import Combined
    from tfl.artefacts.formats.format import Answer, Format, ReadImages

CALL = """import openvino

model = openvino.Core().compile_model("MODEL/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
answers = model(images)  # answers["probabilities"], answers["logits"], answers["class_index"]"""

CALLS = {"bfloat16": CALL.replace('"f32"', '"bf16"')}

SAFETY = "Opening it runs no code of the files: they are data, and OpenVINO loads no extension that they name."


def make_format() -> "Format":
    """Return the record of this format."""
    from tfl.artefacts.formats.format import FLOAT16, FLOAT32, Format

    return Format(
        name="openvino",
        summary="OpenVINO IR",
        file="model.xml",
        save=save,
        open_model=open_model,
        call=CALL,
        safety=SAFETY,
        packages=("openvino",),
        extra="openvino",
        quantizations=(FLOAT32, FLOAT16),
        is_traced_by_tensorflow=True,
        needs_portable_resizing=True,
        takes_empty_batch=True,
        compute_dtypes=("float32", "bfloat16", "float16", "int8"),
        calls=CALLS,
        resize_modes=("stretch", "crop"),
        why_resize_modes="OpenVINO 2026.4 answers from uninitialised memory where the first image that it pads is "
        "smaller than image_size",
    )


def save(combined: "Combined", path: Path, quantize: str, read_images: "ReadImages") -> None:
    """Write both files: input `images`, outputs as in every format; class names under `rt_info`."""
    from tfl.artefacts.formats import graph
    from tfl.engine.openvino import hide_telemetry
    from tfl.machine.packages import require_package

    with hide_telemetry():
        openvino = require_package("openvino", "openvino")
    if combined.quantized is not None:
        model = _join_int8(combined, openvino)
    else:
        model = openvino.convert_model(graph.trace(_convert_layers(combined)))
    for output, name in zip(model.outputs, graph.OUTPUTS, strict=True):
        output.set_names({name})
    model.set_rt_info(list(combined.class_names), ["tfl", "class_names"])
    model.set_rt_info(combined.compute_dtype, ["tfl", "compute_dtype"])
    openvino.save_model(model, path, compress_to_fp16=quantize == "float16")


def _convert_layers(combined: "Combined") -> "Combined":
    """Return the same model in float32 layers if it computes in bfloat16: OpenVINO is told that by a hint."""
    from dataclasses import replace

    from tfl.backbones.folding import convert_to_float32

    if combined.compute_dtype != "bfloat16":
        return combined
    return replace(combined, network=convert_to_float32(combined.network))


def _join_int8(combined: "Combined", openvino: Any) -> Any:
    """Return images to answers, with the very network that computed the cached features inside."""
    from tfl.artefacts.formats import graph
    from tfl.engine.int8 import join_graphs, read_columns

    assert combined.quantized is not None
    front = openvino.convert_model(graph.trace_presentation(combined))
    back = openvino.convert_model(graph.trace_head(combined, combined.quantized.num_features))
    return join_graphs(front, read_columns(combined.quantized), back)


def open_model(path: Path) -> "Answer":
    """Open both files with OpenVINO, on the CPU, in the arithmetic that they say."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # see tfl.engine.openvino
    import openvino

    core = openvino.Core()
    graph = core.read_model(path)
    # A CPU that has bfloat16 units computes with them unless OpenVINO is told otherwise.
    has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    hint = "bf16" if has_bfloat16 and _read_compute_dtype(graph) == "bfloat16" else "f32"
    model = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    return lambda images: {output.any_name: values for output, values in model(images).items()}


def _read_compute_dtype(graph: Any) -> str:
    """Return the arithmetic that the file names; files of earlier versions name none, and are of float32."""
    path = ["tfl", "compute_dtype"]
    return str(graph.get_rt_info(path).value) if graph.has_rt_info(path) else "float32"
