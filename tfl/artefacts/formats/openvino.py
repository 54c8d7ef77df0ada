"""OpenVINO's IR: `model.xml`, the graph, and `model.bin`, the weights."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfl.artefacts.combined import Combined
    from tfl.artefacts.formats.format import Answer, Format, ReadImages

CALL = """import openvino

model = openvino.Core().compile_model("MODEL/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
answers = model(images)  # answers["probabilities"], answers["logits"], answers["class_index"]"""

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
        compute_dtypes=("float32", "float16"),
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
    model = openvino.convert_model(graph.trace(combined))
    for output, name in zip(model.outputs, graph.OUTPUTS, strict=True):
        output.set_names({name})
    model.set_rt_info(list(combined.class_names), ["tfl", "class_names"])
    openvino.save_model(model, path, compress_to_fp16=quantize == "float16")


def open_model(path: Path) -> "Answer":
    """Open both files with OpenVINO, on the CPU and in float32."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # see tfl.engine.openvino
    import openvino

    # A CPU that has bfloat16 units computes with them unless OpenVINO is told otherwise.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: {output.any_name: values for output, values in model(images).items()}
