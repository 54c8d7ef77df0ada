"""What this machine computes with, and what the last bits of a number depend on."""

import importlib.metadata
import math
import os
import platform
import re
from pathlib import Path
from typing import Any

import keras

from tfl.files import user_folders
from tfl.machine.batching import count_processors

OPENVINO = "openvino"
TORCH_COMPILE = "torch.compile"
# By these a library chooses its kernels when it is run, and their sums differ in the last bits; as Linux spells them.
INSTRUCTION_SETS = (
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2"),  # of ARM
)

ARITHMETIC_VARIABLES = (
    # TensorFlow, its XLA and its GPU libraries
    *("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS", "TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC"),
    *("TF_CUDNN_USE_AUTOTUNE", "TF_USE_CUDNN_FRONTEND", "TF_ENABLE_AUTO_MIXED_PRECISION"),
    *("TF_ENABLE_CUBLAS_TENSOR_OP_MATH_FP32", "TF_ENABLE_CUDNN_TENSOR_OP_MATH_FP32", "TF_ENABLE_WINOGRAD_NONFUSED"),
    *("TF_FP16_CONV_USE_FP32_COMPUTE", "TF_FP16_MATMUL_USE_FP32_COMPUTE"),
    # oneDNN (TensorFlow, OpenVINO, PyTorch), under both of its names
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("DNNL_MAX_CPU_ISA", "DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE"),
    # JAX
    *("JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_DEFAULT_DTYPE_BITS", "JAX_NUMPY_DTYPE_PROMOTION"),
    *("JAX_DISABLE_JIT", "JAX_CPU_ENABLE_FAST_MATH", "JAX_DISABLE_MOST_OPTIMIZATIONS", "LIBTPU_INIT_ARGS", "NPROC"),
    # PyTorch
    *("ATEN_CPU_CAPABILITY", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_CUDNN_V8_API_DISABLED"),
    "TORCH_BLAS_PREFER_CUBLASLT",
    # NVIDIA's libraries
    *("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG"),
    # BLAS, and the mathematical functions of the C library
    *("OPENBLAS_CORETYPE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "BLIS_ARCH_TYPE"),
    "GLIBC_TUNABLES",
)
"""Variables of the environment by which a library chooses its kernels or its precision."""


def default_batch_size(shard_rows: int) -> int:
    """Images in one forward pass where the user names no number: an even part of a shard, so that little is padded.

    At most 256 on each accelerator; more than 32 gains nothing on a processor.
    """
    most = 256 * _num_devices() if has_accelerator() else 32
    return round_to_devices(math.ceil(shard_rows / math.ceil(shard_rows / most)))


def round_to_devices(batch_size: int) -> int:
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


def describe_engine(engine: str, batch_size: int) -> dict[str, Any]:
    """What the last bits of a forward pass depend on, for a cache's provenance.

    Args:
      engine: of `chosen`.
    """
    extra = {engine: importlib.metadata.version(engine)} if engine == OPENVINO else {}
    return {
        "engine": engine,
        "versions": library_versions() | extra,
        "device": _described_device(),
        "threads": count_threads(),
        "batch_size": batch_size,
        "environment": arithmetic_environment(),
    }


def arithmetic_environment() -> dict[str, str]:
    """Return those of `ARITHMETIC_VARIABLES` that are set, with their values."""
    return {name: os.environ[name] for name in ARITHMETIC_VARIABLES if name in os.environ}


def _described_device() -> str:
    """How many devices share a batch, where they are several; which; and of a processor the instruction sets."""
    count = _num_devices()
    sets = [] if has_accelerator() else instruction_sets()
    return " ".join([*([f"{count} x"] if count > 1 else []), device_name(), *sets])


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
        jax.config.update("jax_compilation_cache_dir", str(user_folders.writable_folder("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def library_versions() -> dict[str, str]:
    """Versions of what decides the last bits of a number."""
    backend = keras.backend.backend()
    packages = ["keras", backend, "numpy", *(["jaxlib"] if backend == "jax" else [])]
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}


def count_threads() -> int:
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
    return count_processors()


def has_accelerator() -> bool:
    """Whether Keras computes on something else than the processor."""
    return not device_name().startswith("CPU ")


def device_name() -> str:
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
