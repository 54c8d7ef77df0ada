"""The recipe `grid`: many learning rates, weight decays and initial kernels in one pass."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfl.errors import SpecError
from tfl.heads.recipe import Recipe
from tfl.heads.trials import Listeners
from tfl.specs.checks import require_at_least, require_batch_size, require_some

if TYPE_CHECKING:
    from tfl.heads.rows import LabelledFeatures
    from tfl.heads.search import Search


@dataclass(frozen=True)
class Grid(Recipe):
    """Many heads trained together in one pass, as the reference trains one; validation chooses."""

    name: ClassVar = "grid"
    summary: ClassVar = "32 Dense layers in one pass"
    choice: ClassVar = "learning rate, weight decay, kernel"
    advice: ClassVar = "try smaller values of --learning-rate"
    memory_copies: ClassVar = (0.0, 4.0)
    one_setting: ClassVar = {"learning_rate": (0.01,), "weight_decay": (0.0,), "kernel_seed": (0,)}

    learning_rate: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01)
    """Step sizes of SGD."""
    weight_decay: tuple[float, ...] = (0.0, 0.001, 0.01, 0.1)
    """Share of the weights that a step takes away, times the learning rate (as Keras' SGD does)."""
    kernel_seed: tuple[int, ...] = (0, 1)
    """Seeds of the initial kernel; the order of the rows is one for all."""
    epochs: int = 10
    """Passes over the training rows."""
    batch_size: int = 256
    """Rows in one step."""
    momentum: float = 0.9
    """Share of the last step that the next one keeps."""
    seed: int = 0
    """Decides the order of the rows in every epoch, and the validation part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, epochs=self.epochs)
        require_batch_size(self.batch_size)
        require_some(learning_rate=self.learning_rate, weight_decay=self.weight_decay, kernel_seed=self.kernel_seed)
        require_at_least(0, kernel_seed=min(self.kernel_seed))
        if not (min(self.learning_rate) > 0 and min(self.weight_decay) >= 0 and 0 <= self.momentum < 1):
            raise SpecError(
                "learning_rate is positive, weight_decay not negative and momentum in [0, 1), got "
                f"{self.learning_rate}, {self.weight_decay} and {self.momentum}"
            )

    def search(self, fitting: "LabelledFeatures", val: "LabelledFeatures | None", listeners: Listeners) -> "Search":
        """Train a head for each combination in the same pass, and choose one."""
        from tfl.heads.solvers import grid

        return grid.search(self, fitting, val, listeners)
