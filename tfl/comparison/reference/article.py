"""The seed article's program: the last layer of torchvision's pretrained ResNet50 replaced and trained.

Kept as it is; its text leaves out the loader, the transforms and the device, which stand here as its readers write
them. What it does without saying so:

- the network stays in training mode: BatchNorm normalises with each batch's own statistics, and its running statistics
  drift away from the pretrained ones;
- nothing is frozen, so that the backward pass goes through the whole network, although `fc` alone is updated;
- `zero_grad` is the optimizer's, which knows `fc` alone: the gradients of all other layers add up, unused.
"""

from typing import Any

import numpy as np
import torch
from torch import nn, optim

from tfl.comparison.reference.job import Job, Labelled
from tfl.comparison.reference.network import SCALES, device, resnet50
from tfl.comparison.reference.vision import torchvision
from tfl.machine.lockstep import Turns

NUM_WORKERS = 2  # of the loader; as in PyTorch's own CIFAR-10 tutorial


def play(job: Job, turns: Turns) -> None:
    """Train on the slice for all epochs, a mini-batch a turn, and then measure on the test images, in both modes."""
    torch.manual_seed(job.recipe.seed)
    network = resnet50(job)
    network.fc = nn.Linear(network.fc.in_features, job.num_classes)
    network.to(device())
    _train(network, _loader(job, "train"), job, turns)
    correct = {f"slice, {mode}": _count_correct(network, job, mode, turns) for mode in ("train", "eval")}
    turns.end("score", correct=correct)


class Images(torch.utils.data.Dataset[Any]):  # type: ignore[misc]
    """What `torchvision.datasets.CIFAR10` is: arrays in memory, and a transform of one image at a time."""

    def __init__(self, labelled: Labelled, transform: Any) -> None:
        self._labelled = labelled
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labelled.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._labelled.images[index]), int(self._labelled.labels[index])


def transform(job: Job) -> Any:
    """An image's way into the network: to PIL, resized by it, to a tensor, normalised."""
    transforms = torchvision().transforms
    size, scale = job.features.image_size, SCALES[job.weights]
    return transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize(np.divide(scale.mean, 255).tolist(), np.divide(scale.deviation, 255).tolist()),
        ]
    )


def _loader(job: Job, role: str) -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(
        Images(job.slice(role), transform(job)),
        batch_size=job.recipe.batch_size,
        shuffle=role == "train",
        num_workers=NUM_WORKERS,
    )


def _train(network: Any, loader: torch.utils.data.DataLoader[Any], job: Job, turns: Turns) -> None:
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(network.fc.parameters(), lr=job.recipe.learning_rate, momentum=job.recipe.momentum)
    network.train()
    for epoch in range(job.recipe.epochs):
        running_loss = 0.0
        for i, data in enumerate(loader):
            inputs, labels = (each.to(device()) for each in data)
            optimizer.zero_grad()
            outputs = network(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            if i % 2000 == 1999:
                print(f"[{epoch + 1}, {i + 1:5d}] loss: {running_loss / 2000:.3f}")  # noqa: T201 -- as the article has it
                running_loss = 0.0
            turns.end("start-up" if epoch == i == 0 else "train", len(labels))


def _count_correct(network: Any, job: Job, mode: str, turns: Turns) -> int:
    """Of the test images: in the mode `train`, in which the program leaves the network, or after `eval()`."""
    network.train(mode == "train")
    correct = 0
    with torch.no_grad():
        for inputs, labels in _loader(job, "test"):
            outputs = network(inputs.to(device()))
            correct += int((outputs.argmax(dim=1).cpu() == labels).sum())
            turns.end("test", len(labels))
    return correct
