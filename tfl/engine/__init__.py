"""Running a backbone forward, and a training step repeatedly, fast on this machine.

Calls of one backend's own stand here; the rest of tfl is written with `keras.ops`.
"""

from tfl.engine import openvino
from tfl.engine.arithmetic import compile_function, exact_float32, keep_freed_memory
from tfl.engine.devices import (
    count_threads,
    default_batch_size,
    device_name,
    has_accelerator,
    is_out_of_memory,
    round_to_devices,
)
from tfl.engine.engines import ENGINES, compile_model, resolve_engine
from tfl.engine.forward import Forward
from tfl.engine.instructions import list_instruction_sets
from tfl.engine.int8 import compile_pixels as compile_int8
from tfl.engine.provenance import describe_engine, library_versions
from tfl.engine.record import Compiled, Engine
from tfl.machine.memory import available_memory

__all__ = [
    "ENGINES",
    "Compiled",
    "Engine",
    "Forward",
    "available_memory",
    "compile_function",
    "compile_int8",
    "compile_model",
    "count_threads",
    "default_batch_size",
    "describe_engine",
    "device_name",
    "exact_float32",
    "has_accelerator",
    "is_out_of_memory",
    "keep_freed_memory",
    "library_versions",
    "list_instruction_sets",
    "openvino",
    "resolve_engine",
    "round_to_devices",
]
