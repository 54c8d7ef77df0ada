"""Functions of tensors, compiled where the Keras backend can, in float32 that is float32."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfl.engine.devices import has_accelerator, keep_jax_programs
from tfl.machine import patches


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors that is traced and compiled once, on backends that can."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)  # type: ignore[no-any-return]
    if backend == "jax":
        import jax

        keep_jax_programs()
        return jax.jit(function)  # type: ignore[no-any-return]
    return function


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 in float32 inside, and put the backend's setting back.

    GPUs use TensorFloat-32 by default.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        with _exact_tensorflow():
            yield
    elif backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "torch":
        with _exact_torch():
            yield
    else:
        yield


@contextlib.contextmanager
def _exact_tensorflow() -> Iterator[None]:
    import tensorflow as tf

    was_enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was_enabled)


@contextlib.contextmanager
def _exact_torch() -> Iterator[None]:
    import torch

    settings = (torch.backends.cudnn, torch.backends.cuda.matmul)
    were_allowed = [each.allow_tf32 for each in settings]
    for each in settings:
        each.allow_tf32 = False
    try:
        yield
    finally:
        for each, was_allowed in zip(settings, were_allowed, strict=True):
            each.allow_tf32 = was_allowed


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let forward passes on a processor reuse the memory that they free; see `patches.keep_freed_memory`.

    With an accelerator nothing is done.
    """
    with contextlib.nullcontext() if has_accelerator() else patches.keep_freed_memory():
        yield
