"""The recipe `knn`: votes of the nearest training rows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfl.heads.recipe import Recipe
from tfl.heads.trials import Listeners
from tfl.specs.checks import require_at_least, require_positive, require_some

if TYPE_CHECKING:
    from tfl.heads.rows import LabelledFeatures
    from tfl.heads.search import Search


@dataclass(frozen=True)
class Knn(Recipe):
    """Votes of the nearest training rows by cosine, weighted by exp(cosine / temperature)."""

    name: ClassVar = "knn"
    summary: ClassVar = "nothing: the nearest training rows vote"
    choice: ClassVar = "how many, how sharply"
    advice: ClassVar = "precompute again with --feature-dtype float32 and --compute-dtype float32"
    memory_copies: ClassVar = (4.5, 2.0)
    one_setting: ClassVar = {"neighbours": (5,), "temperature": (0.05,)}

    neighbours: tuple[int, ...] = (5, 10, 20, 50, 100)
    """Numbers of rows that vote."""
    temperature: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
    """Small ones let the nearest rows decide."""
    seed: int = 0
    """Decides the validation part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_some(neighbours=self.neighbours, temperature=self.temperature)
        require_at_least(1, neighbours=min(self.neighbours))
        require_positive(temperature=min(self.temperature))

    def search(self, fitting: "LabelledFeatures", val: "LabelledFeatures | None", listeners: Listeners) -> "Search":
        """Vote with every number of neighbours and every temperature, and choose one."""
        from tfl.heads.solvers import knn

        return knn.search(self, fitting, val, listeners)
