"""torchvision's ResNet50 and its preprocessing, with Keras' weights or its own."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from tfl.comparison.reference.port import port_weights
from tfl.comparison.reference.setup import Setup
from tfl.comparison.reference.vision import import_torchvision
from tfl.errors import CompareError

KERAS_EPSILON = 1.001e-5  # of BatchNorm; keras/src/applications/resnet.py
NUM_FEATURES = 2048


class Scale(NamedTuple):
    """Normalisation of pixels in 0..255, RGB: `(pixels - mean) / deviation`."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


SCALES = {
    "keras": Scale((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),  # "caffe" mode; the ported kernel reads RGB
    "torchvision": Scale((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # 255 times (0.485...), (0.229...)
}


def choose_device() -> torch.device:
    """Return where the reference computes: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_resnet50(setup: Setup) -> Any:
    """Return the pretrained network; its classifier is not trained for this dataset.

    Raises:
      CompareError: torchvision's weights are asked for, and are not at hand.
    """
    models = import_torchvision().models
    network = models.resnet50(weights=None)
    if setup.weights == "torchvision":
        network.load_state_dict(_torchvision_state(models.ResNet50_Weights.IMAGENET1K_V1.url))
        return network
    move_strides(network)
    with np.load(setup.folder / "weights.npz") as tensors:
        load_tensors(network, port_weights(tensors))
    return network


def move_strides(network: Any) -> None:
    """Turn "v1.5" into Keras' "v1": the stride is on a block's first convolution, and BatchNorm's epsilon differs."""
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = KERAS_EPSILON


def load_tensors(network: Any, state: Mapping[str, np.ndarray]) -> None:
    """Set the tensors of everything but the classifier.

    Raises:
      ValueError: the names or shapes are not exactly the network's.
    """
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.startswith("fc.") and not name.endswith(".num_batches_tracked")
    }
    received = {name: array.shape for name, array in state.items()}
    if received != expected:
        odd = sorted(set(received.items()) ^ set(expected.items()))
        raise ValueError(f"the tensors are not torchvision's resnet50's; odd ones: {odd[:6]}")
    tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    network.load_state_dict(tensors, strict=False)


def _torchvision_state(url: str) -> Any:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.is_file():
        raise CompareError(
            f"torchvision's own weights are not at hand: there is no file {path}; download {url} to it, or leave "
            "--weights torchvision out"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = path.stem.rpartition("-")[2]  # PyTorch puts the first digits into the name
    if not digest.startswith(expected):
        raise CompareError(f"{path} has sha256 {digest[:8]}..., expected {expected}...; remove it and download {url}")
    return torch.load(path, weights_only=True)


def preprocess(images: torch.Tensor, setup: Setup) -> torch.Tensor:
    """Return what the network is given, on the images' device.

    Args:
      images: uint8 `(n, h, w, 3)`, RGB.

    Returns:
      float32 `(n, 3, image_size, image_size)`, RGB.
    """
    size, scale = setup.features.image_size, SCALES[setup.weights]
    resized = nn.functional.interpolate(
        images.permute(0, 3, 1, 2).float(),
        (size, size),
        mode="bilinear",
        antialias=setup.features.antialias,
    )
    mean, deviation = (torch.tensor(three, device=images.device)[:, None, None] for three in scale)
    return (resized - mean) / deviation
