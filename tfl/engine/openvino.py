"""Intel's OpenVINO, on a processor."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tfl.machine.packages import hide_packages

DTYPES = {"float32": ("FP32", "f32"), "bfloat16": ("BF16", "bf16"), "float16": ("FP16", "f16")}
"""Of a compute dtype: OpenVINO's words for the processor's ability and for the hint."""


def supported_dtypes() -> list[str]:
    """The compute dtypes that this processor has instructions for."""
    with hide_telemetry():
        import openvino
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [dtype for dtype, (ability, _) in DTYPES.items() if ability in able]


def compile_model(function: Any, compute_dtype: str, threads: int) -> Callable[[Any], np.ndarray]:
    """A forward pass, batch in and numpy out, whose arithmetic is `compute_dtype`.

    Without the hint OpenVINO computes in bfloat16 wherever the processor can.

    Args:
      function: a TensorFlow function of one tensor of static shape, of float32 layers for every `compute_dtype`.
    """
    with hide_telemetry():
        import openvino
    model = openvino.convert_model(function)
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        **precision_hint(compute_dtype),
    }
    compiled = openvino.Core().compile_model(model, "CPU", properties)
    return lambda batch: compiled(np.asarray(batch))[0].copy()  # the next batch writes into the same memory


def precision_hint(compute_dtype: str) -> dict[str, str]:
    """What tells OpenVINO its arithmetic; the processor must have it, see `arithmetics`."""
    return {"INFERENCE_PRECISION_HINT": DTYPES[compute_dtype][1]}


def hide_telemetry() -> contextlib.AbstractContextManager[None]:
    """OpenVINO 2026.4 tells Google Analytics that it was imported, unasked, unless it finds no `openvino_telemetry`."""
    return hide_packages("openvino_telemetry")
