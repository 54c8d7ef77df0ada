"""What this machine computes with, and what the last bits of a number depend on."""

import importlib.metadata
import math
import os
import platform
import re
from pathlib import Path
from typing import Any

import keras

from tfl import assets
from tfl.batches import num_processors

OPENVINO = "openvino"
TORCH_COMPILE = "torch.compile"
# By these a library chooses its kernels when it is run, and their sums differ in the last bits; as Linux spells them.
INSTRUCTION_SETS = (
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2"),  # of ARM
)


def default_batch_size(shard_rows: int) -> int:
    """Images in one forward pass where the user names no number: an even part of a shard, so that little is padded.

    At most 256 on each accelerator; more than 32 gains nothing on a processor.
    """
    most = 256 * _num_devices() if has_accelerator() else 32
    return shared_evenly(math.ceil(shard_rows / math.ceil(shard_rows / most)))


def shared_evenly(batch_size: int) -> int:
    """The least size from this one on that all devices share evenly: any other each of them would compute in full."""
    return math.ceil(batch_size / _num_devices()) * _num_devices()


def _num_devices() -> int:
    """Accelerators that a batch is divided over: under JAX all local ones, else one."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return int(jax.local_device_count())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a backend or OpenVINO says with this error that a batch does not fit into memory."""
    kinds = ("ResourceExhaustedError", "OutOfMemoryError")  # TensorFlow's and PyTorch's
    words = ("RESOURCE_EXHAUSTED", "bad_alloc", "bad allocation", "DefaultCPUAllocator")  # JAX's, OpenVINO's, PyTorch's
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
        "device": _described_device(),
        "threads": threads(),
        "batch_size": batch_size,
    }


def _described_device() -> str:
    """How many devices share a batch, where they are several; which; and of a processor the instruction sets."""
    count = _num_devices()
    sets = [] if has_accelerator() else instruction_sets()
    return " ".join([*([f"{count} x"] if count > 1 else []), device(), *sets])


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Those of `INSTRUCTION_SETS` that the processor has, or where Linux does not say so, the processor's name."""
    try:
        found = re.search(
            r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
    except OSError:
        found = None
    if found is None:
        return platform.processor().split()
    able = set(found[1].split())
    return [name for name in INSTRUCTION_SETS if name in able]


def keep_programs() -> None:
    """Let JAX keep what it compiles for an accelerator, unless it has been told where to.

    It tries kernels out there, for ResNet50 on an H100 in 5 s. A run that goes on has those of the run before.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is None and has_accelerator():
        jax.config.update("jax_compilation_cache_dir", str(assets.home() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def versions() -> dict[str, str]:
    """Versions of what decides the last bits of a number."""
    backend = keras.backend.backend()
    packages = ["keras", backend, "numpy", *(["jaxlib"] if backend == "jax" else [])]
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}


def threads() -> int:
    """Processors that this process may use, or as many as TensorFlow or PyTorch has been told to take."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        told = tf.config.threading.get_intra_op_parallelism_threads() or os.environ.get("TF_NUM_INTRAOP_THREADS", "")
        if str(told).isdecimal() and int(told):
            return int(told)
    elif backend == "torch":
        import torch

        return int(torch.get_num_threads())
    return num_processors()


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
