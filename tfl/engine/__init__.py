"""Running a backbone forward, and a training step repeatedly, fast on what this machine has.

Everything that is one backend's own call stands here; the rest of tfl is written with `keras.ops`.
"""

from tfl.engine import openvino
from tfl.engine.arithmetic import compile_function, exact_float32
from tfl.engine.compiled import chosen, compile_model
from tfl.engine.forward import Forward
from tfl.engine.machine import (
    default_batch_size,
    describe,
    device,
    has_accelerator,
    is_out_of_memory,
    shared_evenly,
    threads,
    versions,
)
from tfl.memory import available_memory

__all__ = [
    "Forward",
    "available_memory",
    "chosen",
    "compile_function",
    "compile_model",
    "default_batch_size",
    "describe",
    "device",
    "exact_float32",
    "has_accelerator",
    "is_out_of_memory",
    "openvino",
    "shared_evenly",
    "threads",
    "versions",
]
