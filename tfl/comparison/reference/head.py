"""A new last layer, trained as PyTorch users train one."""

import torch
from torch import nn

from tfl.comparison.reference.setup import Start
from tfl.heads import Reference


class Trainer:
    """A linear layer and its optimizer: softmax cross-entropy, SGD with momentum."""

    def __init__(self, start: Start, recipe: Reference, device: torch.device) -> None:
        self.layer = nn.Linear(*start.kernel.shape)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(start.kernel.T))
            self.layer.bias.copy_(torch.from_numpy(start.bias))
        self.layer.to(device)
        self._optimizer = torch.optim.SGD(
            self.layer.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, fused=True
        )

    def step(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Update the layer by a batch `(m, d)`, and return its mean loss before the update."""
        self._optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.layer(features), labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def count_correct(self, features: torch.Tensor, labels: torch.Tensor) -> int:
        """Return how many rows are classified correctly."""
        with torch.inference_mode():
            return int((self.layer(features).argmax(dim=1) == labels).sum())


def fit(features: torch.Tensor, labels: torch.Tensor, start: Start, recipe: Reference) -> tuple[Trainer, list[float]]:
    """Train on features `(n, d)` and labels `(n,)`, all on the device, in the orders of `start`.

    Returns:
      The trained layer, and the mean loss of each epoch, in nats.
    """
    trainer = Trainer(start, recipe, features.device)
    losses = []
    for order in torch.from_numpy(start.orders).to(features.device):
        total = torch.zeros((), dtype=torch.float64, device=features.device)
        for rows in order.split(recipe.batch_size):
            total += trainer.step(features[rows], labels[rows]) * len(rows)
        losses.append(float(total) / len(labels))
    return trainer, losses
