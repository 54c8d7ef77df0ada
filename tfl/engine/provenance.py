"""Everything that the last bits of a number depend on, for the provenance of caches and runs."""

import importlib.metadata
import os
import platform
from typing import Any

import keras

from tfl.engine.devices import count_devices, count_threads, device_name, has_accelerator
from tfl.engine.engines import find_engine
from tfl.engine.instructions import list_instruction_sets

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
"""Environment variables by which a library chooses its kernels or its precision."""


def describe_engine(engine: str, batch_size: int) -> dict[str, Any]:
    """Return everything that the last bits of a forward pass depend on.

    Args:
      engine: a name that `resolve_engine` returned.
    """
    packages = {name: importlib.metadata.version(name) for name in find_engine(engine).packages}
    return {
        "engine": engine,
        "versions": library_versions() | packages,
        "device": _describe_device(),
        "threads": count_threads(),
        "batch_size": batch_size,
        "environment": arithmetic_environment(),
    }


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide the last bits of a number."""
    backend = keras.backend.backend()
    packages = ["keras", backend, "numpy"]
    if backend == "jax":
        packages.append("jaxlib")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}


def arithmetic_environment() -> dict[str, str]:
    """Return those of `ARITHMETIC_VARIABLES` that are set, with their values."""
    return {name: os.environ[name] for name in ARITHMETIC_VARIABLES if name in os.environ}


def _describe_device() -> str:
    """Return the device, how many share a batch if several do, and a processor's instruction sets."""
    count = count_devices()
    words = [f"{count} x"] if count > 1 else []
    words.append(device_name())
    if not has_accelerator():
        words += list_instruction_sets()
    return " ".join(words)
