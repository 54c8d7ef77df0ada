"""What this machine computes with, and what the last bits of a number depend on."""

import importlib.metadata
import os
import platform
from typing import Any

import keras

OPENVINO = "openvino"


def default_batch_size() -> int:
    """Images in one forward pass where the user names no number: more than 32 gains nothing on a processor."""
    return 256 * _num_devices() if has_accelerator() else 32


def _num_devices() -> int:
    """Accelerators that a batch is divided over: under JAX all local ones, else one."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return int(jax.local_device_count())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a backend or OpenVINO says with this error that a batch does not fit into memory."""
    kinds = ("ResourceExhaustedError", "OutOfMemoryError")  # TensorFlow's and PyTorch's
    words = ("RESOURCE_EXHAUSTED", "bad_alloc", "bad allocation")  # JAX's and OpenVINO's
    is_named = isinstance(error, MemoryError) or type(error).__name__ in kinds
    return is_named or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


def describe(engine: str, batch_size: int) -> dict[str, Any]:
    """What the last bits of a forward pass depend on, for a cache's provenance.

    Args:
      engine: of `chosen`.
    """
    extra = {engine: importlib.metadata.version(engine)} if engine == OPENVINO else {}
    return {
        "engine": engine,
        "versions": versions() | extra,
        "device": device(),
        "threads": threads(),
        "batch_size": batch_size,
    }


def versions() -> dict[str, str]:
    """Versions of what decides the last bits of a number."""
    backend = keras.backend.backend()
    packages = ["keras", backend, "numpy", *(["jaxlib"] if backend == "jax" else [])]
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}


def threads() -> int:
    """Processors that this process may use, or TensorFlow's own setting where there is one."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if chosen := tf.config.threading.get_intra_op_parallelism_threads():
            return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_accelerator() -> bool:
    """Whether Keras computes on something else than the processor."""
    return not device().startswith("CPU ")


def device() -> str:
    """The accelerator that Keras computes on, or the processor."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if gpus := tf.config.list_physical_devices("GPU"):
            return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    elif backend == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return str(jax.devices()[0].device_kind)
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name())
    return f"CPU {platform.machine()}"
