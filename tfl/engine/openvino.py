"""Intel's OpenVINO as an engine, on a processor."""

import contextlib
import importlib.util
from typing import Any

import keras
import numpy as np

from tfl.backbones.folding import convert_to_float32
from tfl.engine.devices import count_threads, has_accelerator
from tfl.engine.instructions import list_instruction_sets
from tfl.engine.record import Compiled, Engine, Shape
from tfl.engine.tensorflow import trace_with_constants
from tfl.machine.packages import hide_packages
from tfl.specs.features import FLOAT_DTYPES, INT8

DTYPES = {"float32": ("FP32", "f32"), "bfloat16": ("BF16", "bf16"), "float16": ("FP16", "f16")}
"""By compute dtype: OpenVINO's words for the processor's ability, and for the hint."""

# Any of them sums products of int8 numbers. As Linux spells them.
INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def hide_telemetry() -> contextlib.AbstractContextManager[None]:
    """Let `import openvino` find no `openvino_telemetry` inside.

    OpenVINO (2026.4.1) tells Google Analytics that it was imported, unasked, if it finds that package. It
    can go when `python -c "import openvino, sys; print('openvino_telemetry' in sys.modules)"` says False.
    """
    return hide_packages("openvino_telemetry")


def supported_dtypes() -> list[str]:
    """Return the compute dtypes that this processor has instructions for."""
    with hide_telemetry():
        import openvino
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [dtype for dtype, (ability, _) in DTYPES.items() if ability in able]


def has_int8_instructions() -> bool:
    """Whether the processor computes faster in int8; True where Linux does not list what it has."""
    listed = list_instruction_sets()
    is_known = any(name in listed for name in ("avx", "avx2", "asimd"))
    return not is_known or any(name in listed for name in INT8_INSTRUCTIONS)


def find_obstacle(compute_dtype: str) -> str:
    """Return the reason why OpenVINO cannot serve here; empty if it can."""
    if importlib.util.find_spec("openvino") is None:
        return "it is not installed; pip install '.[openvino]'"
    backend = keras.backend.backend()
    if backend != "tensorflow":
        return f"it takes the network from TensorFlow, and KERAS_BACKEND is {backend}"
    if has_accelerator():
        return "it would leave the accelerator idle"
    if compute_dtype in ("float32", INT8):
        return ""
    able = supported_dtypes()
    if compute_dtype not in able:
        return f"on this processor it computes in {', '.join(able)}, not in {compute_dtype}"
    return ""


def prepare(network: keras.Model, compute_dtype: str) -> keras.Model:
    """Return the network in float32, for every dtype; OpenVINO is told the arithmetic by a hint.

    It cannot run layers that Keras built for another dtype (2026.4.1: "cpu_convert can't convert from: f32
    precision to: dynamic"). It folds BatchNormalization itself.
    """
    return network if compute_dtype == "float32" else convert_to_float32(network)


def compile_model(model: keras.Model, shape: Shape, compute_dtype: str) -> Compiled:
    """Compile a forward pass, batch in and numpy out, whose arithmetic is `compute_dtype`.

    Args:
      model: of float32 layers for every `compute_dtype`; see `prepare`.
      shape: static.
    """
    function = trace_with_constants(model, shape)
    with hide_telemetry():
        import openvino
    return compile_graph(openvino.convert_model(function), compute_dtype)


def compile_graph(graph: Any, compute_dtype: str) -> Compiled:
    """Compile an OpenVINO model for this processor; a graph of several inputs takes a list."""
    with hide_telemetry():
        import openvino
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": count_threads(),
        **precision_hint(compute_dtype),
    }
    compiled = openvino.Core().compile_model(graph, "CPU", properties)

    def run(batch: Any) -> np.ndarray:
        inputs = batch if isinstance(batch, list) else np.asarray(batch)
        output: np.ndarray = compiled(inputs)[0]
        return output.copy()  # the next batch is written into the same memory

    return run


def precision_hint(compute_dtype: str) -> dict[str, str]:
    """Return the property that tells OpenVINO its arithmetic; the processor must support it.

    Without it OpenVINO computes in bfloat16 wherever the processor can.
    """
    return {"INFERENCE_PRECISION_HINT": DTYPES[compute_dtype][1]}


# `auto` takes it for every dtype. In float16 it is slower than in float32, and still 1.4 times as fast as TensorFlow in
# float16 (docs/results/float16-cpu.json): whoever wants speed takes another dtype, not another engine.
OPENVINO = Engine(
    "openvino",
    compile_model,
    prepare,
    find_obstacle,
    is_preferred=True,
    packages=("openvino",),
    dtypes=(*FLOAT_DTYPES, INT8),
)
