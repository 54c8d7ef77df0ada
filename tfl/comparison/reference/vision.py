"""The import of torchvision."""

import sys
from types import ModuleType
from typing import Any

import torch

_declared: list[Any] = []  # a library's operators are gone when it is


def import_torchvision() -> ModuleType:
    """Return the package `torchvision`.

    Its wheels for CUDA cannot be imported beside a CPU build of PyTorch (torch 2.13.0+cpu,
    torchvision 0.28.0: "operator torchvision::nms does not exist"): their compiled operators do not
    load, but two of them are referred to. Those two are then declared without an implementation.
    This can go when the plain import succeeds there.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # what was half imported
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        import torchvision
    return torchvision  # type: ignore[no-any-return]
