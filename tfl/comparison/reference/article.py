"""The seed article's program: the last layer of torchvision's pretrained ResNet50 replaced and trained.

The program is kept as it is. The article leaves out the loader, the transforms and the device: they
are written here as its readers write them. Three things that the program does without saying so:

- the network stays in training mode: BatchNorm normalises with each batch's own statistics, and its
  running statistics drift away from the pretrained ones;
- nothing is frozen: the backward pass goes through the whole network, although only `fc` is
  updated;
- `zero_grad` belongs to the optimizer, which knows only `fc`: the gradients of all other layers add
  up, unused.
"""

from typing import Any

import numpy as np
import torch
from torch import nn, optim

from tfl.comparison.lockstep import TurnTaker
from tfl.comparison.reference.network import SCALES, build_resnet50, choose_device
from tfl.comparison.reference.setup import LabelledImages, Setup
from tfl.comparison.reference.vision import import_torchvision

NUM_WORKERS = 2  # of the loader; as in PyTorch's own CIFAR-10 tutorial


def run(setup: Setup, turns: TurnTaker) -> None:
    """Train on the slice, a mini-batch a turn; then test on the test images, in training mode and after `eval()`."""
    torch.manual_seed(setup.recipe.seed)
    network = build_resnet50(setup)
    network.fc = nn.Linear(network.fc.in_features, setup.num_classes)
    network.to(choose_device())
    _train(network, _make_loader(setup, "train"), setup, turns)
    correct = {f"slice, {mode}": _count_correct(network, setup, mode, turns) for mode in ("train", "eval")}
    turns.end_turn("score", correct=correct)


class Images(torch.utils.data.Dataset[Any]):  # type: ignore[misc]
    """A dataset like `torchvision.datasets.CIFAR10`: arrays in memory, and a transform of one image at a time."""

    def __init__(self, labelled: LabelledImages, transform: Any) -> None:
        self._labelled = labelled
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labelled.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._labelled.images[index]), int(self._labelled.labels[index])


def make_transform(setup: Setup) -> Any:
    """Return the article's transform: to PIL, resized by PIL, to a tensor, normalised."""
    transforms = import_torchvision().transforms
    size, scale = setup.features.image_size, SCALES[setup.weights]
    return transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize(np.divide(scale.mean, 255).tolist(), np.divide(scale.deviation, 255).tolist()),
        ]
    )


def _make_loader(setup: Setup, role: str) -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(
        Images(setup.read_slice(role), make_transform(setup)),
        batch_size=setup.recipe.batch_size,
        shuffle=role == "train",
        num_workers=NUM_WORKERS,
    )


def _train(network: Any, loader: torch.utils.data.DataLoader[Any], setup: Setup, turns: TurnTaker) -> None:
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(network.fc.parameters(), lr=setup.recipe.learning_rate, momentum=setup.recipe.momentum)
    network.train()
    for epoch in range(setup.recipe.epochs):
        running_loss = 0.0
        for i, data in enumerate(loader):
            inputs, labels = (each.to(choose_device()) for each in data)
            optimizer.zero_grad()
            outputs = network(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            if i % 2000 == 1999:
                print(f"[{epoch + 1}, {i + 1:5d}] loss: {running_loss / 2000:.3f}")  # noqa: T201 -- as the article has it
                running_loss = 0.0
            turns.end_turn("start-up" if epoch == i == 0 else "train", len(labels))


def _count_correct(network: Any, setup: Setup, mode: str, turns: TurnTaker) -> int:
    """Return how many test images are classified correctly.

    Args:
      mode: of the network: `train`, in which the article leaves it, or `eval`.
    """
    network.train(mode == "train")
    correct = 0
    with torch.no_grad():
        for inputs, labels in _make_loader(setup, "test"):
            outputs = network(inputs.to(choose_device()))
            correct += int((outputs.argmax(dim=1).cpu() == labels).sum())
            turns.end_turn("test", len(labels))
    return correct
