"""The engines, and choosing one of them."""

import keras

from tfl.engine.instructions import INT8_INSTRUCTIONS
from tfl.engine.jax import JAX
from tfl.engine.openvino import OPENVINO, has_int8_instructions, supported_dtypes
from tfl.engine.pytorch import TORCH, TORCH_COMPILE
from tfl.engine.record import Compiled, Engine, Shape
from tfl.engine.tensorflow import TENSORFLOW
from tfl.errors import TflError
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs.features import INT8

ENGINES = {engine.name: engine for engine in (TENSORFLOW, JAX, TORCH, TORCH_COMPILE, OPENVINO)}


def resolve_engine(option: str, compute_dtype: str) -> str:
    """Return the name of the engine that `--engine` means here.

    `keras` is the engine of the Keras backend. `auto` is the preferred engine that can serve here,
    else that of the Keras backend.

    Raises:
      TflError: the engine that was asked for cannot serve here, and why; or Keras runs on a backend
        that no engine is for.
    """
    backend = _require_backend()
    if compute_dtype == INT8:
        return _require_int8(option)
    if option == "keras":
        return backend
    if option == "auto":
        preferred = [engine for engine in ENGINES.values() if engine.is_preferred]
        serving = [engine.name for engine in preferred if not engine.find_obstacle(compute_dtype)]
        return serving[0] if serving else backend
    obstacle = ENGINES[option].find_obstacle(compute_dtype)
    if obstacle:
        raise TflError(f"--engine {option}: {obstacle}; or take --engine keras")
    return option


def find_obstacle(name: str, compute_dtype: str) -> str:
    """Return the reason why an engine cannot compute in a dtype here, whatever is preferred; empty if it can."""
    backend, engine = _require_backend(), ENGINES[name]
    if compute_dtype not in engine.dtypes:
        return f"it does not compute in {compute_dtype}"
    if engine.is_backend and name != backend:
        return f"it is for KERAS_BACKEND={name}, and that is {backend}"
    return engine.find_obstacle(compute_dtype)


def _require_int8(option: str) -> str:
    """Return the name of the engine that computes in int8, or refuse what would be slower than float32.

    `--engine openvino` computes on any processor: the features are the same.
    """
    name = OPENVINO.name
    if option not in ("auto", name):
        raise TflError(f"--compute-dtype int8 runs in {name} alone, got --engine {option}; leave --engine out")
    obstacle = OPENVINO.find_obstacle(INT8)
    if obstacle:
        raise TflError(f"--compute-dtype int8 needs {name}: {obstacle}; or take --compute-dtype bfloat16 or float32")
    if option == "auto" and not has_int8_instructions():
        able = supported_dtypes()
        instead = "bfloat16" if "bfloat16" in able else "float32"
        raise TflError(
            f"this processor has none of the instructions for int8 ({', '.join(INT8_INSTRUCTIONS)}) and would be no "
            f"faster than in float32; take --compute-dtype {instead}, or --engine {name} to compute in int8 anyway"
        )
    return name


def _require_backend() -> str:
    backend: str = keras.backend.backend()
    backends = [engine.name for engine in ENGINES.values() if engine.is_backend]
    if backend not in backends:
        raise TflError(f"KERAS_BACKEND is {backend!r}; expected one of {', '.join(backends)}")
    return backend


def find_engine(name: str = "") -> Engine:
    """Return the engine of this name, or that of the Keras backend if it is empty."""
    return ENGINES[name or keras.backend.backend()]


@pin_keras_settings()
def compile_model(model: keras.Model, shape: Shape, engine: str = "", compute_dtype: str = "float32") -> Compiled:
    """Compile a model's forward pass on batches of this shape.

    Args:
      engine: a name that `resolve_engine` returned; that of the Keras backend if empty.
      compute_dtype: that of the model's layers; OpenVINO, whose layers are float32, has to be told.
    """
    return find_engine(engine).compile(model, shape, compute_dtype)
