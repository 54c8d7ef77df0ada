"""Running a backbone forward, and a training step repeatedly, fast on what this machine has.

Everything that is one backend's own call stands here; the rest of tfl is written with `keras.ops`.
"""

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl.backbone import Backbone
from tfl.errors import TflError
from tfl.spec import View

Compiled = Callable[[Any], Any]


class Forward:
    """A backbone made ready to run on batches of exactly `batch_size` images."""

    def __init__(self, backbone: Backbone, batch_size: int) -> None:
        size = backbone.spec.image_size
        self._backbone = backbone
        self._batch_size = batch_size
        self._presented: dict[View, Compiled] = {}
        with exact_float32():
            self._network = compile_model(backbone.network, (batch_size, size, size, 3))

    def features(self, images: Sequence[np.ndarray], view: View = "original") -> np.ndarray:
        """Float32 `(n, d)` features of `n <= batch_size` uint8 images `(h, w, 3)`, each presented as `view` says.

        Images of one size are resized together, of differing sizes one by one, by the same function on the device.
        A short batch is padded with copies of its first image, so that every batch runs the same computation.
        """
        padded = [*images, *[images[0]] * (self._batch_size - len(images))]
        is_uniform = len({image.shape for image in images}) == 1
        batches = [np.stack(padded)] if is_uniform else [image[None] for image in padded]
        with exact_float32():
            presented = [self._present(view)(batch) for batch in batches]
            pixels = presented[0] if is_uniform else ops.concatenate(presented)  # (batch_size, size, size, 3)
            return np.asarray(ops.convert_to_numpy(self._network(pixels))[: len(images)])

    def _present(self, view: View) -> Compiled:
        """Compiled when the first batch needs it."""
        if view not in self._presented:
            self._presented[view] = compile_model(self._backbone.presented(view), (None, None, None, 3))
        return self._presented[view]


def describe(batch_size: int) -> dict[str, Any]:
    """What the last bits of a forward pass depend on, for a cache's provenance."""
    return {
        "engine": keras.backend.backend(),
        "versions": versions(),
        "device": device(),
        "threads": threads(),
        "batch_size": batch_size,
    }


def compile_model(model: keras.Model, shape: tuple[int | None, ...]) -> Compiled:
    """The model's forward pass on batches of this shape, fast on the Keras backend in use; tensors stay on it."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow(model, shape)
    if backend == "jax":
        return _jax(model)
    if backend == "torch":
        return _torch(model)
    raise TflError(f"KERAS_BACKEND is {backend!r}; expected tensorflow, jax or torch")


def _tensorflow(model: keras.Model, shape: tuple[int | None, ...]) -> Compiled:
    """Variables frozen to constants: BatchNorm and biases are folded by the graph optimiser (1.1x to 1.3x)."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    @tf.function  # type: ignore[untyped-decorator]
    def forward(batch: Any) -> Any:
        return model(batch, training=False)

    frozen = convert_variables_to_constants_v2(
        forward.get_concrete_function(tf.TensorSpec(shape, model.inputs[0].dtype))
    )
    return lambda batch: frozen(tf.convert_to_tensor(batch))[0]


def _jax(model: keras.Model) -> Compiled:
    import jax

    trainable = [variable.value for variable in model.trainable_variables]
    frozen = [variable.value for variable in model.non_trainable_variables]
    forward = jax.jit(lambda t, f, batch: model.stateless_call(t, f, batch, training=False)[0])
    return lambda batch: forward(trainable, frozen, batch)


def _torch(model: keras.Model) -> Compiled:
    import torch

    def forward(batch: Any) -> Any:
        with torch.inference_mode():
            return model(ops.convert_to_tensor(batch), training=False)

    return forward


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, traced and compiled once on backends that can."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)  # type: ignore[no-any-return]
    if backend == "jax":
        import jax

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

        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before
    else:
        yield


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


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may still take; an accelerator's own memory is not looked at.

    The least of what the system can give, what each memory limit of its cgroups leaves, and what RLIMIT_AS leaves.
    Where the system does not say what is free, all its memory counts. Another process may take it in the meantime.

    Args:
      root: the folder that holds `proc` and `sys`.
    """
    free = _number(root / "proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    rooms = [_physical_memory() if free is None else free * 1024, *_cgroup_rooms(root)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    mapped = _number(root / "proc/self/status", r"^VmSize:\s+(\d+) kB")
    if limit != resource.RLIM_INFINITY and mapped is not None:
        rooms.append(limit - mapped * 1024)
    return max(0, min(rooms))


# Of cgroup v2 and v1: the limit, what is in use, and what of that is file pages that the kernel drops when pressed.
_CGROUP_FILES = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _cgroup_rooms(root: Path) -> Iterator[int]:
    """What each memory limit on the way from this process's cgroup up to the root leaves, in bytes.

    Inside a container the path in `/proc/self/cgroup` may be the host's, and the container's own files stand at the
    root: hence also the parents of a path that is not there.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        name = "memory" if "memory" in controllers.split(",") else controllers
        if name not in _CGROUP_FILES:
            continue
        top, limit_file, usage_file, cached = _CGROUP_FILES[name]
        folder = root / top / path.lstrip("/")
        for each in (folder, *folder.parents):
            limit, usage = _number(each / limit_file), _number(each / usage_file)
            if limit is not None and usage is not None:
                yield limit - usage + (_number(each / "memory.stat", rf"^{cached} (\d+)") or 0)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no such call, or no such name
        return sys.maxsize


def _number(path: Path, pattern: str = r"^(\d+)") -> int | None:
    """The number that a line of a file holds; None if there is no such file or line."""
    found = re.search(pattern, _text(path), re.MULTILINE)
    return int(found[1]) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
