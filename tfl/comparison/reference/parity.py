"""What the reference makes of a few images, step by step, to be held against ours."""

import numpy as np
import torch
from torch import nn

from tfl.comparison.reference.article import transform
from tfl.comparison.reference.job import Job
from tfl.comparison.reference.network import device, pixels, resnet50
from tfl.machine.lockstep import Turns


def play(job: Job, turns: Turns) -> None:
    """From `parity.npz`, uint8 `images (n, h, w, 3)` and our `inputs (n, s, s, 3)`, BGR, make `parity-reference.npz`.

    It holds the reference's own `pixels` and, as its readers resize, by PIL, `pil_pixels`, both as our inputs are; and
    its `features (n, d)` of our inputs.
    """
    with np.load(job.folder / "parity.npz") as arrays:
        images, inputs = arrays["images"], arrays["inputs"]
    of_article = transform(job)
    network = resnet50(job)
    network.fc = nn.Identity()
    network.eval().to(device())
    with torch.inference_mode():
        features = network(_nchw(inputs).to(device()))
        own = pixels(torch.from_numpy(images).to(device()), job)
    np.savez(
        job.folder / "parity-reference.npz",
        pixels=_as_ours(own),
        pil_pixels=_as_ours(torch.stack([of_article(image) for image in images])),
        features=features.cpu(),
    )
    turns.end("parity", len(images), version=torch.__version__)


def _nchw(inputs: np.ndarray) -> torch.Tensor:
    """Channels turned around and moved."""
    return torch.from_numpy(np.ascontiguousarray(inputs[..., ::-1].transpose(0, 3, 1, 2)))


def _as_ours(tensor: torch.Tensor) -> np.ndarray:
    """And back."""
    return np.asarray(tensor.cpu()).transpose(0, 2, 3, 1)[..., ::-1]
