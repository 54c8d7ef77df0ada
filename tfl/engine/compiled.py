"""A model's forward pass, made fast by each engine in its own way."""

import importlib.util
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfl.engine import openvino, pytorch
from tfl.engine.machine import OPENVINO, TORCH_COMPILE, count_threads, has_accelerator, keep_programs
from tfl.errors import TflError
from tfl.machine.keras_settings import pin_keras_settings

BACKENDS = ("tensorflow", "jax", "torch")
Compiled = Callable[[Any], Any]


def resolve_engine(engine: str, compute_dtype: str) -> str:
    """The engine that a setting means here: `openvino`, `torch.compile`, or the name of the Keras backend.

    `auto` is OpenVINO on a processor where it is installed and has the arithmetic; else, and for `keras`, the backend.

    Raises:
      TflError: the one asked for cannot serve here, and why; or Keras runs on a backend unknown to tfl.
    """
    backend: str = keras.backend.backend()
    if backend not in BACKENDS:
        raise TflError(f"KERAS_BACKEND is {backend!r}; expected one of {', '.join(BACKENDS)}")
    if engine == "keras":
        return backend
    obstacle = pytorch.obstacle() if engine == TORCH_COMPILE else _obstacle(backend, compute_dtype)
    if engine == "auto":
        return backend if obstacle else OPENVINO
    if obstacle:
        raise TflError(f"--engine {engine}: {obstacle}; or take --engine keras")
    return engine


def _obstacle(backend: str, compute_dtype: str) -> str:
    """Why OpenVINO cannot serve, in words; empty if it can."""
    if importlib.util.find_spec(OPENVINO) is None:
        return "it is not installed; pip install '.[openvino]'"
    if backend != "tensorflow":
        return f"it takes the network from TensorFlow, and KERAS_BACKEND is {backend}"
    if has_accelerator():
        return "it would leave the accelerator idle"
    if compute_dtype != "float32" and compute_dtype not in (able := openvino.supported_dtypes()):
        return f"on this processor it computes in {', '.join(able)}, not in {compute_dtype}"
    return ""


@pin_keras_settings()
def compile_model(
    model: keras.Model, shape: tuple[int | None, ...], engine: str = "", compute_dtype: str = "float32"
) -> Compiled:
    """The model's forward pass on batches of this shape; tensors stay where the Keras backend computes.

    Args:
      engine: of `chosen`; that of the Keras backend if empty.
      compute_dtype: that of the model's layers; of OpenVINO, whose layers are float32, what it has to be told.
    """
    if engine == OPENVINO:
        return openvino.compile_model(_constant(model, shape), compute_dtype, count_threads())
    return _ENGINES[engine or keras.backend.backend()](model, shape)


def _concrete(model: keras.Model, shape: tuple[int | None, ...]) -> Any:
    """The model as a TensorFlow function of one tensor."""
    import tensorflow as tf

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def forward(batch: Any) -> Any:
        return model(batch, training=False)

    return forward.get_concrete_function(tf.TensorSpec(shape, model.inputs[0].dtype))


def _constant(model: keras.Model, shape: tuple[int | None, ...]) -> Any:
    """The same, its weights constants from the beginning: OpenVINO looks for every variable at every node."""
    import tensorflow as tf

    weights = [
        [ops.convert_to_numpy(variable) for variable in of]
        for of in (model.trainable_variables, model.non_trainable_variables)
    ]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def forward(batch: Any) -> Any:
        constants = [[tf.constant(array) for array in arrays] for arrays in weights]
        return model.stateless_call(*constants, batch, training=False)[0]

    return forward.get_concrete_function(tf.TensorSpec(shape, model.inputs[0].dtype))


def _tensorflow(model: keras.Model, shape: tuple[int | None, ...]) -> Compiled:
    """Variables frozen to constants: BatchNorm and biases are folded by the graph optimiser (1.1x to 1.3x).

    On a GPU by XLA, but where sizes are open: XLA would compile for each anew.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(_concrete(model, shape))
    is_compiled = has_accelerator() and None not in shape

    # Called itself, the frozen function would write each batch into an error that TensorFlow then discards.
    @tf.function(autograph=False, jit_compile=is_compiled)  # type: ignore[untyped-decorator]
    def forward(batch: Any) -> Any:
        return frozen(batch)[0]

    run = forward.get_concrete_function(tf.TensorSpec(shape, model.inputs[0].dtype))
    return lambda batch: run(tf.convert_to_tensor(batch))


def _jax(model: keras.Model, shape: tuple[int | None, ...]) -> Compiled:
    """On all local devices: each takes its part of the rows of a batch that they divide."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    keep_programs()
    mesh = jax.make_mesh((jax.local_device_count(),), ("devices",), devices=jax.local_devices())
    everywhere, by_rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("devices",)))
    variables = [
        [variable.value for variable in of] for of in (model.trainable_variables, model.non_trainable_variables)
    ]
    trainable, frozen = jax.device_put(variables, everywhere)
    forward = jax.jit(lambda t, f, batch: model.stateless_call(t, f, batch, training=False)[0])

    def run(batch: Any) -> Any:
        is_divided = len(batch) % mesh.size == 0
        return forward(trainable, frozen, jax.device_put(batch, by_rows if is_divided else everywhere))

    return run


def _torch(model: keras.Model, shape: tuple[int | None, ...]) -> Compiled:
    return pytorch.call(model) if None in shape else pytorch.graph(model, shape)


_ENGINES: dict[str, Callable[[keras.Model, tuple[int | None, ...]], Compiled]] = {
    "tensorflow": _tensorflow,
    "jax": _jax,
    "torch": _torch,
    TORCH_COMPILE: pytorch.compiled,
}
