"""Changes that act on the whole process, each in one context manager: who needs it, why, and until when.

Two more stand beside what they change: `tfl.machine.packages.hide_packages` and
`tfl.engine.openvino.hide_telemetry`.
"""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# Parameters of `mallopt`, of malloc.h of glibc, and the values that glibc itself begins with (2.36).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
DEFAULTS = {M_TRIM_THRESHOLD: 128 * 1024, M_MMAP_MAX: 65_536}
KEEPING = {M_TRIM_THRESHOLD: -1, M_MMAP_MAX: 0}  # never trim; no mapping of its own for a large piece


@contextlib.contextmanager
def skip_initializers() -> Iterator[None]:
    """Let layers built inside begin with zeros instead of random weights.

    For networks whose weights are loaded next. Under JAX each new shape that is drawn is a
    compilation: 10 s for ResNet50.
    Changes `keras.layers.Layer.add_weight`. Keras 3.15 has no setting for it; the patch can go when
    building ResNet50 under JAX takes no longer without it.
    """
    add_weight = keras.layers.Layer.add_weight

    def add_zeros(layer: keras.layers.Layer, *args: Any, initializer: Any = None, **kwargs: Any) -> Any:
        is_random = hasattr(initializer, "seed")
        return add_weight(layer, *args, initializer=_zeros if is_random else initializer, **kwargs)

    keras.layers.Layer.add_weight = add_zeros
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight


def _zeros(shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
    return np.zeros(shape, dtype)


@contextlib.contextmanager
def build_without_weights(file_utils: Any) -> Iterator[None]:
    """Let a constructor of keras.applications called for "imagenet" get and load no weights.

    For weights files of EfficientNet: its constructor adds a layer for "imagenet" that it adds in
    no other case. Changes `get_file` of the architecture's `file_utils`, and
    `keras.Model.load_weights`. It can go when Keras (3.15) builds that layer for other weights too.

    Args:
      file_utils: the module of that name that the architecture's module uses.
    """
    get_file, load_weights = file_utils.get_file, keras.Model.load_weights
    file_utils.get_file = lambda *args, **kwargs: ""
    keras.Model.load_weights = lambda *args, **kwargs: None
    try:
        yield
    finally:
        file_utils.get_file, keras.Model.load_weights = get_file, load_weights


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let the C library keep the memory that is freed inside, instead of giving it to the system.

    For forward passes on a processor, which free and allocate large tensors in every batch: the
    system would clear each page anew. PyTorch (2.13) takes half the time. Sets the process's
    `mallopt`, and afterwards the values that glibc begins with. Nothing is done without glibc. It
    can go when `scripts/benchmarks/extraction.py` shows PyTorch no faster with it.
    """
    _set_malloc(KEEPING)
    try:
        yield
    finally:
        _set_malloc(DEFAULTS)


def _set_malloc(parameters: dict[int, int]) -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for parameter, value in parameters.items():
            libc.mallopt(parameter, value)
