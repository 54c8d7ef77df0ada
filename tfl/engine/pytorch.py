"""PyTorch as an engine: the network as a graph of operators, or compiled by `torch.compile`."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import keras
from keras import ops

from tfl.backbones.folding import fold_batch_norm
from tfl.engine.devices import has_accelerator
from tfl.engine.record import Compiled, Engine, Shape
from tfl.errors import TflError
from tfl.text import to_one_line


def prepare(network: keras.Model, compute_dtype: str) -> keras.Model:
    """Fold BatchNormalization into convolutions, which PyTorch does not do itself."""
    return fold_batch_norm(network)


def run_as_called(model: Any) -> Compiled:
    """Return a forward pass of a model, or of a graph of it, as Keras calls it; for batches of any shape."""
    import torch

    def forward(batch: Any) -> Any:
        with torch.inference_mode():
            return model(ops.convert_to_tensor(batch), training=False)

    return forward


def compile_model(model: keras.Model, shape: Shape, compute_dtype: str) -> Compiled:
    """Trace a forward pass to its operators alone, without Keras' Python code at every layer.

    A model for batches of open shape is called as it is.
    """
    return run_as_called(model if None in shape else export_graph(model, shape))


def compile_with_torch(model: keras.Model, shape: Shape, compute_dtype: str) -> Compiled:
    """Compile the graph by `torch.compile`: layers are fused, and weights laid out once, as constants.

    Raises:
      TflError: it cannot be compiled; raised when the first batch is run.
    """
    import torch

    run = run_as_called(torch.compile(export_graph(model, shape), options={"freezing": True}))

    def forward(batch: Any) -> Any:
        try:
            return run(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            first_line = str(error).splitlines()[0]
            raise TflError(f"torch.compile failed: {to_one_line(first_line)}; take --engine keras") from error

    return forward


def find_compile_obstacle(compute_dtype: str) -> str:
    """Return the reason why `torch.compile` cannot serve here; empty if none is known."""
    if keras.backend.backend() != "torch":
        return f"it is for KERAS_BACKEND=torch, and that is {keras.backend.backend()}"
    if has_accelerator():
        return ""
    # The compiler that torch.compile looks for.
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        return f"it needs a C++ compiler, and there is no {compiler}"
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return "" if headers.exists() else f"it needs Python's headers, and there is no {headers}"


def export_graph(model: keras.Model, shape: Shape) -> Any:
    """Return the model's operators as PyTorch exports them, for batches of exactly this shape."""
    import torch

    example = ops.zeros(shape, model.inputs[0].dtype)
    with torch.no_grad():
        return torch.export.export(model, (example,), {"training": False}, strict=False).module()


TORCH = Engine("torch", compile_model, prepare, is_backend=True)
TORCH_COMPILE = Engine("torch.compile", compile_with_torch, prepare, find_compile_obstacle)
