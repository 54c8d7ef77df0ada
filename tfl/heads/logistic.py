"""The recipe `logistic`: multinomial logistic regression."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfl.heads.recipe import Recipe
from tfl.heads.trials import Listeners
from tfl.specs.checks import require_at_least, require_positive, require_some

if TYPE_CHECKING:
    from tfl.heads.rows import LabelledFeatures
    from tfl.heads.search import Search

# Twelve values, two a decade, from "nearly the class means" to "nearly unpenalised" for standardised features.
L2_PATH = (1.0, 0.32, 0.1, 0.032, 0.01, 0.0032, 0.001, 3.2e-4, 1e-4, 3.2e-5, 1e-5, 3.2e-6)


@dataclass(frozen=True)
class Logistic(Recipe):
    """Multinomial logistic regression on standardised features, along a path of L2 penalties."""

    name: ClassVar = "logistic"
    summary: ClassVar = "multinomial logistic regression"
    choice: ClassVar = "the penalty, of 12"
    advice: ClassVar = "try larger values of --l2"
    memory_copies: ClassVar = (1.5, 2.0)
    one_setting: ClassVar = {"l2": (0.1,)}

    l2: tuple[float, ...] = L2_PATH
    """Penalties: mean cross-entropy + l2 / 2 |kernel|^2 (scikit-learn's C is 1 / (l2 n))."""
    max_iterations: int = 200
    """Most iterations of L-BFGS for each penalty."""
    tolerance: float = 1e-4
    """L-BFGS ends when no component of the preconditioned gradient is larger."""
    seed: int = 0
    """Decides the validation part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_some(l2=self.l2)
        require_positive(l2=min(self.l2), tolerance=self.tolerance)
        require_at_least(1, max_iterations=self.max_iterations)

    def search(self, fitting: "LabelledFeatures", val: "LabelledFeatures | None", listeners: Listeners) -> "Search":
        """Go along the penalties from the strongest to the weakest, and choose one."""
        from tfl.heads.solvers import logistic

        return logistic.search(self, fitting, val, listeners)
