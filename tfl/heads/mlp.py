"""The recipe `mlp`: hidden layers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfl.errors import SpecError
from tfl.heads.recipe import Recipe
from tfl.heads.trials import Listeners
from tfl.specs.checks import require_at_least, require_batch_size, require_positive, require_share, require_some

if TYPE_CHECKING:
    from tfl.heads.rows import LabelledFeatures
    from tfl.heads.search import Search


@dataclass(frozen=True)
class Mlp(Recipe):
    """Hidden layers with dropout on standardised features; AdamW, warm-up, cosine, smoothed labels."""

    name: ClassVar = "mlp"
    summary: ClassVar = "hidden layers with dropout; several `--members`"
    choice: ClassVar = "the epoch"
    advice: ClassVar = "try a smaller --learning-rate"
    memory_copies: ClassVar = (0.5, 2.0)
    has_epochs: ClassVar = True

    hidden: tuple[int, ...] = (1024,)
    """Widths of the hidden layers."""
    members: int = 1
    """Networks trained side by side from different weights; the head averages their logits."""
    dropout: float = 0.5
    """Share of the hidden units, and half that share of the features, that a step leaves out."""
    epochs: int = 20
    """Passes over the training rows."""
    batch_size: int = 512
    """Rows in one step; an eighth of the rows, but not below 8, where that is fewer."""
    learning_rate: float = 0.002
    """Step size of AdamW after the warm-up."""
    weight_decay: float = 0.05
    """Weight decay of AdamW (decoupled)."""
    warmup: float = 0.1
    """Share of the steps in which the step size grows from zero; then it falls along a cosine."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over all classes."""
    mixup: float = 0.0
    """Both parameters of the beta distribution by which pairs of rows are mixed; 0 for none."""
    patience: int = 6
    """Epochs without a better validation accuracy that end the training; the best one is kept."""
    seed: int = 0
    """Decides initial weights, order, dropout, mixing, and the validation part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_some(hidden=self.hidden)
        require_at_least(1, hidden=min(self.hidden), members=self.members, epochs=self.epochs, patience=self.patience)
        require_batch_size(self.batch_size)
        require_positive(learning_rate=self.learning_rate)
        require_share(dropout=self.dropout, warmup=self.warmup, label_smoothing=self.label_smoothing)
        if self.mixup < 0 or self.weight_decay < 0:
            raise SpecError(f"mixup and weight_decay are not negative, got {self.mixup} and {self.weight_decay}")

    def search(self, fitting: "LabelledFeatures", val: "LabelledFeatures | None", listeners: Listeners) -> "Search":
        """Train, and keep the epoch of the best validation accuracy."""
        from tfl.heads.solvers import mlp

        return mlp.search(self, fitting, val, listeners)
