"""The devices that Keras computes on: which they are, how many, and the batches that suit them."""

import math
import os
import platform

import keras

from tfl.files import user_folders
from tfl.machine.batching import count_processors

ACCELERATOR_BATCH, PROCESSOR_BATCH = 256, 32  # images; more than 32 gains nothing on a processor
# Of TensorFlow and PyTorch; what JAX, OpenVINO and PyTorch's processor backend write into a RuntimeError.
MEMORY_ERRORS = ("ResourceExhaustedError", "OutOfMemoryError")
MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "bad_alloc", "bad allocation", "DefaultCPUAllocator")


def has_accelerator() -> bool:
    """Whether Keras computes on something else than the processor."""
    return not device_name().startswith("CPU ")


def device_name() -> str:
    """Return the name of the accelerator that Keras computes on, or of the processor's architecture."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
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


def count_devices() -> int:
    """Return how many devices share a batch: under JAX all local ones, else one."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return int(jax.local_device_count())


def count_threads() -> int:
    """Return the processors that this process may use, or as many as TensorFlow or PyTorch was told to use."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        threads = tf.config.threading.get_intra_op_parallelism_threads()
        threads = threads or os.environ.get("TF_NUM_INTRAOP_THREADS", "")
        if str(threads).isdecimal() and int(threads):
            return int(threads)
    elif backend == "torch":
        import torch

        return int(torch.get_num_threads())
    return count_processors()


def default_batch_size(shard_rows: int) -> int:
    """Return the images in one forward pass where the user names no number.

    It is an even part of a shard, so that little is padded.
    """
    most = ACCELERATOR_BATCH * count_devices() if has_accelerator() else PROCESSOR_BATCH
    num_batches = math.ceil(shard_rows / most)
    return round_to_devices(math.ceil(shard_rows / num_batches))


def round_to_devices(batch_size: int) -> int:
    """Round up to a size that all devices share evenly: each of them would compute any other in full."""
    return math.ceil(batch_size / count_devices()) * count_devices()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an engine says with this error that a batch does not fit into memory."""
    if isinstance(error, MemoryError) or type(error).__name__ in MEMORY_ERRORS:
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in MEMORY_WORDS)


def keep_jax_programs() -> None:
    """Let JAX keep the programs that it compiles for an accelerator, unless it was told where to.

    It tries kernels out there: 5 s for ResNet50 on an H100. A resumed run has the programs of the run before.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is None and has_accelerator():
        jax.config.update("jax_compilation_cache_dir", str(user_folders.writable_folder("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
