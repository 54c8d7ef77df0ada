"""Parity: what the reference computes of a few images, step by step, for comparison with ours."""

import numpy as np
import torch
from torch import nn

from tfl.comparison.lockstep import TurnTaker
from tfl.comparison.reference.article import make_transform
from tfl.comparison.reference.network import build_resnet50, choose_device, preprocess
from tfl.comparison.reference.setup import Setup


def run(setup: Setup, turns: TurnTaker) -> None:
    """Read `parity.npz` and write `parity-reference.npz`.

    The first holds `images (n, h, w, 3)` uint8 and our `inputs (n, s, s, 3)`, BGR. The second holds
    what the reference makes of the images, as our inputs are: `pixels` by its own resizing and
    `pil_pixels` by PIL's, as the article has it; and `features (n, d)`, what its network makes of
    our inputs.
    """
    with np.load(setup.folder / "parity.npz") as arrays:
        images, inputs = arrays["images"], arrays["inputs"]
    make_input = make_transform(setup)
    network = build_resnet50(setup)
    network.fc = nn.Identity()
    network.eval().to(choose_device())
    with torch.inference_mode():
        features = network(_to_torch(inputs).to(choose_device()))
        own = preprocess(torch.from_numpy(images).to(choose_device()), setup)
    np.savez(
        setup.folder / "parity-reference.npz",
        pixels=_to_numpy(own),
        pil_pixels=_to_numpy(torch.stack([make_input(image) for image in images])),
        features=features.cpu(),
    )
    turns.end_turn("parity", len(images))


def _to_torch(inputs: np.ndarray) -> torch.Tensor:
    """Return BGR `(n, s, s, 3)` as RGB `(n, 3, s, s)`."""
    return torch.from_numpy(np.ascontiguousarray(inputs[..., ::-1].transpose(0, 3, 1, 2)))


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return RGB `(n, 3, s, s)` as BGR `(n, s, s, 3)`."""
    return np.asarray(tensor.cpu()).transpose(0, 2, 3, 1)[..., ::-1]
