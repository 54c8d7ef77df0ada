"""A forward pass under PyTorch: as Keras calls it, as a graph of operators, or compiled."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import ops

from tfl.engine.machine import has_accelerator
from tfl.errors import TflError


def call(model: Any) -> Callable[[Any], Any]:
    """The model, or a graph of it, as it is: a model for batches of any shape."""
    import torch

    def forward(batch: Any) -> Any:
        with torch.inference_mode():
            return model(ops.convert_to_tensor(batch), training=False)

    return forward


def graph(model: keras.Model, shape: tuple[int | None, ...]) -> Callable[[Any], Any]:
    """Its operators alone, without what Keras does in Python at every layer; for batches of exactly this shape."""
    return call(_exported(model, shape))


def compiled(model: keras.Model, shape: tuple[int | None, ...]) -> Callable[[Any], Any]:
    """The graph by `torch.compile`, its weights constants: layers are fused, and weights laid out for them once.

    Raises:
      TflError: it cannot be compiled, when the first batch is run.
    """
    import torch

    run = call(torch.compile(_exported(model, shape), options={"freezing": True}))

    def forward(batch: Any) -> Any:
        try:
            return run(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise TflError(f"torch.compile failed: {str(error).splitlines()[0]}; take --engine keras") from error

    return forward


def obstacle() -> str:
    """Why `torch.compile` cannot serve here, in words; empty if nothing is known."""
    if keras.backend.backend() != "torch":
        return f"it is for KERAS_BACKEND=torch, and that is {keras.backend.backend()}"
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # as torch.compile looks for it
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if has_accelerator():
        return ""
    if shutil.which(compiler) is None:
        return f"it needs a C++ compiler, and there is no {compiler}"
    return "" if headers.exists() else f"it needs Python's headers, and there is no {headers}"


def _exported(model: keras.Model, shape: tuple[int | None, ...]) -> Any:
    import torch

    example = ops.zeros(shape, model.inputs[0].dtype)
    with torch.no_grad():
        return torch.export.export(model, (example,), {"training": False}, strict=False).module()
