"""Functions of tensors, compiled where the Keras backend can, in float32 that is float32."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfl.engine.machine import keep_programs


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, traced and compiled once on backends that can."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)  # type: ignore[no-any-return]
    if backend == "jax":
        import jax

        keep_programs()
        return jax.jit(function)  # type: ignore[no-any-return]
    return function


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """float32 means float32 inside: no TensorFloat-32, which GPUs use by default; the setting is put back."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)
    elif backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "torch":
        import torch

        places = (torch.backends.cudnn, torch.backends.cuda.matmul)
        were_allowed = [place.allow_tf32 for place in places]
        for place in places:
            place.allow_tf32 = False
        try:
            yield
        finally:
            for place, was_allowed in zip(places, were_allowed, strict=True):
                place.allow_tf32 = was_allowed
    else:
        yield
