"""Intel's OpenVINO as an engine, on a processor."""

import contextlib
import importlib.util
import io
import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfl.backbones.folding import convert_to_float32
from tfl.engine.devices import count_threads, has_accelerator
from tfl.engine.instructions import INT8_INSTRUCTIONS, list_instruction_sets
from tfl.engine.kept_models import Facts, find_model, keep_model
from tfl.engine.record import Compiled, Engine, Shape
from tfl.engine.tensorflow import trace_with_constants
from tfl.machine.packages import hide_packages
from tfl.specs.features import FLOAT_DTYPES, INT8

logger = logging.getLogger(__name__)

DTYPES = {"float32": ("FP32", "f32"), "bfloat16": ("BF16", "bf16"), "float16": ("FP16", "f16")}
"""By compute dtype: OpenVINO's words for the processor's ability, and for the hint."""


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


def lacks_only_package() -> bool:
    """Whether OpenVINO would serve here if it were installed."""
    is_installed = importlib.util.find_spec("openvino") is not None
    return not is_installed and keras.backend.backend() == "tensorflow" and not has_accelerator()


def find_obstacle(compute_dtype: str) -> str:
    """Return the reason why OpenVINO cannot serve here; empty if it can."""
    if importlib.util.find_spec("openvino") is None:
        extra = INT8 if compute_dtype == INT8 else "openvino"
        return f"it is not installed; pip install '.[{extra}]'"
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
    return compile_graph(lambda: _convert(model, shape), compute_dtype)


def compile_network(
    make_network: Callable[[], keras.Model], shape: Shape, compute_dtype: str, facts: Facts
) -> Compiled:
    """Compile a backbone's network as `compile_model` does, once for all processes.

    Args:
      make_network: returns the network, not prepared; called where no compiled one is kept.
      shape: static.
      facts: everything that decides the network, its shape and the engine.
    """
    return compile_graph(lambda: _convert(prepare(make_network(), compute_dtype), shape), compute_dtype, facts)


def _convert(model: keras.Model, shape: Shape) -> Any:
    """Return a Keras model as OpenVINO's."""
    function = trace_with_constants(model, shape)
    with hide_telemetry():
        import openvino
    return keep_first_output(openvino.convert_model(function), openvino)


def keep_first_output(graph: Any, openvino: Any) -> Any:
    """Return a graph without the outputs that TensorFlow's swish adds: what a gradient would need (2.21)."""
    return openvino.Model([graph.outputs[0]], graph.get_parameters(), "network")


def compile_graph(make_graph: Callable[[], Any], compute_dtype: str, facts: Facts | None = None) -> Compiled:
    """Compile an OpenVINO model for this processor; a graph of several inputs takes a list.

    Args:
      make_graph: returns the model; called where no compiled one is kept.
      facts: everything that decides the model and the engine; the compiled one is kept under them.
        None to keep nothing.
    """
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": count_threads(),
        **precision_hint(compute_dtype),
    }
    compiled = _compile(make_graph, properties, facts)

    def run(batch: Any) -> np.ndarray:
        inputs = batch if isinstance(batch, list) else np.asarray(batch)
        output: np.ndarray = compiled(inputs)[0]
        return output.copy()  # the next batch is written into the same memory

    return run


def _compile(make_graph: Callable[[], Any], properties: dict[str, Any], facts: Facts | None) -> Any:
    """Return the compiled model that was kept under these facts, or compile and keep one.

    Both compute the same bits (OpenVINO 2026.4.1): OpenVINO exports the graph that its last step compiles.
    """
    with hide_telemetry():
        import openvino
    core = openvino.Core()
    if facts is None:
        return core.compile_model(make_graph(), "CPU", properties)
    facts = {**facts, "openvino": openvino.get_version(), "properties": properties}
    kept = find_model(facts)
    if kept is not None:
        try:
            return core.import_model(kept, "CPU", properties)
        except RuntimeError as error:
            logger.warning("OpenVINO cannot import the network that it exported, and compiles it again: %s", error)
    compiled = core.compile_model(make_graph(), "CPU", properties)
    with contextlib.suppress(RuntimeError):  # it cannot export this one
        exported = io.BytesIO()
        compiled.export_model(exported)
        keep_model(facts, exported.getbuffer())
    return compiled


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
    compile_network,
    is_preferred=True,
    packages=("openvino",),
    dtypes=(*FLOAT_DTYPES, INT8),
)
