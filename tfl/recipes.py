"""The settings of each recipe, a named way to train a head; `head` carries them out."""

from dataclasses import dataclass

from tfl.errors import SpecError


@dataclass(frozen=True)
class Reference:
    """The seed article's recipe: one Dense layer, softmax cross-entropy from logits, SGD with momentum."""

    epochs: int = 10
    """Passes over the training rows."""
    batch_size: int = 32
    """Rows in one step; the article names none."""
    learning_rate: float = 0.001
    """Step size of SGD."""
    momentum: float = 0.9
    """Share of the last step that the next one keeps."""
    seed: int = 0
    """Decides the initial kernel and the order of the rows in every epoch."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise SpecError(f"epochs and batch_size are at least 1, got {self.epochs} and {self.batch_size}")
        if not (self.learning_rate > 0 and 0 <= self.momentum < 1):
            raise SpecError(
                f"learning_rate is positive and momentum in [0, 1), got {self.learning_rate} and {self.momentum}"
            )
