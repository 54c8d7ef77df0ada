"""The recipe `ridge`: least squares with an L2 penalty."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfl.heads.recipe import Recipe
from tfl.heads.trials import Listeners
from tfl.specs.checks import require_positive, require_some

if TYPE_CHECKING:
    from tfl.heads.rows import LabelledFeatures
    from tfl.heads.search import Search

L2_PATH = tuple(float(f"{10 ** (exponent / 4):.2g}") for exponent in range(4, -21, -1))  # 10 to 1e-5


@dataclass(frozen=True)
class Ridge(Recipe):
    """Least squares with an L2 penalty on standardised features, in closed form."""

    name: ClassVar = "ridge"
    summary: ClassVar = "least squares in closed form"
    choice: ClassVar = "the penalty, of 25"
    advice: ClassVar = "try larger values of --l2"
    memory_copies: ClassVar = (1.0, 2.0)
    one_setting: ClassVar = {"l2": (1.0,)}

    l2: tuple[float, ...] = L2_PATH
    """Penalties: mean squared error + l2 times the squared kernel."""
    seed: int = 0
    """Decides the validation part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_some(l2=self.l2)
        require_positive(l2=min(self.l2))

    def search(self, fitting: "LabelledFeatures", val: "LabelledFeatures | None", listeners: Listeners) -> "Search":
        """Solve for every penalty, and choose one."""
        from tfl.heads.solvers import ridge

        return ridge.search(self, fitting, val, listeners)
