"""The recipe `reference`: what the seed article trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfl.errors import SpecError
from tfl.heads.recipe import Recipe
from tfl.heads.trials import Epoch, Listeners
from tfl.specs.checks import require_at_least, require_batch_size

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfl.heads.examples import Examples
    from tfl.heads.rows import LabelledFeatures
    from tfl.heads.search import Search


@dataclass(frozen=True)
class Reference(Recipe):
    """The seed article's recipe: one Dense layer, softmax cross-entropy, SGD with momentum."""

    name: ClassVar = "reference"
    summary: ClassVar = "the article's Dense layer: SGD 0.001, momentum 0.9, ten epochs"
    advice: ClassVar = "try a smaller --learning-rate"
    memory_copies: ClassVar = (0.0, 3.0)  # as read, on the device, and as much again for what else grows
    has_choices: ClassVar = False
    has_epochs: ClassVar = True
    can_stream: ClassVar = True

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
        super().__post_init__()
        require_at_least(1, epochs=self.epochs)
        require_batch_size(self.batch_size)
        if not (self.learning_rate > 0 and 0 <= self.momentum < 1):
            raise SpecError(
                f"learning_rate is positive and momentum in [0, 1), got {self.learning_rate} and {self.momentum}"
            )

    def search(self, fitting: "LabelledFeatures", val: "LabelledFeatures | None", listeners: Listeners) -> "Search":
        """Train on the fitting rows; the validation rows are only measured."""
        from tfl.heads.solvers import reference

        return reference.search(self, fitting, val, listeners)

    def fit(
        self,
        train: "Examples",
        num_classes: int,
        val: "Examples | None" = None,
        listeners: Listeners = Listeners(),
        class_weights: "np.ndarray | None" = None,
    ) -> "tuple[keras.Model, list[Epoch]]":
        """Train on all rows at once."""
        from tfl.heads.solvers import reference

        return reference.fit(self, train, num_classes, val, listeners.on_epoch, class_weights)
