"""Running a backbone forward, and a training step repeatedly, fast on what this machine has.

Everything that is one backend's own call stands here; the rest of tfl is written with `keras.ops`.
"""

from tfl.engine import openvino
from tfl.engine.arithmetic import compile_function, exact_float32
from tfl.engine.compiled import compile_model, resolve_engine
from tfl.engine.forward import Forward
from tfl.engine.machine import (
    count_threads,
    default_batch_size,
    describe_engine,
    device_name,
    has_accelerator,
    is_out_of_memory,
    library_versions,
    round_to_devices,
)
from tfl.machine.memory import available_memory

__all__ = [
    "Forward",
    "available_memory",
    "compile_function",
    "compile_model",
    "count_threads",
    "default_batch_size",
    "describe_engine",
    "device_name",
    "exact_float32",
    "has_accelerator",
    "is_out_of_memory",
    "library_versions",
    "openvino",
    "resolve_engine",
    "round_to_devices",
]
