"""The base of all recipes: their settings, and everything else that varies by recipe."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tfl.heads.trials import Epoch, Listeners
from tfl.specs.checks import require_at_least, require_finite

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfl.heads.examples import Examples
    from tfl.heads.rows import LabelledFeatures
    from tfl.heads.search import Search


@dataclass(frozen=True)
class Recipe(ABC):
    """The settings of one way to train a head; a tuple lists candidates to choose from.

    A subclass is a frozen dataclass with a field `seed` and a method `search`, which imports its
    numerics itself.

    Attributes:
      name: what `--recipe` takes.
      summary: what it fits, for a table of all recipes.
      choice: what validation rows choose, for that table.
      advice: what to try if its head is not finite.
      memory_copies: main memory at the peak of training, in copies of one view's features: so many,
        and so many more for each view. What does not grow with the features comes on top.
        `scripts/benchmarks/recipe_memory.py` measures it.
      one_setting: for each setting that lists candidates, the one to take if there are too few rows
        to choose on. Tuned to no dataset: strong penalties, and few neighbours.
      has_choices: its settings, or its epoch, are chosen on validation rows, and then the head is
        fitted on all rows. A recipe without choices has a method `fit`, and trains on all training
        rows at once.
      has_epochs: progress is told by epoch, not by trial.
      can_stream: `fit` takes rows that are read from the file anew in every epoch.
      is_compound: it runs other recipes and chooses between them.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    choice: ClassVar[str] = "nothing"
    advice: ClassVar[str]
    memory_copies: ClassVar[tuple[float, float]]
    one_setting: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    has_choices: ClassVar[bool] = True
    has_epochs: ClassVar[bool] = False
    can_stream: ClassVar[bool] = False
    is_compound: ClassVar[bool] = False

    @property
    @abstractmethod
    def seed(self) -> int:
        """Decides everything that is left to chance."""

    @property
    def batch_size(self) -> int:
        """Rows in one step; rows are streamed in blocks of a multiple of it."""
        return 1

    def __post_init__(self) -> None:
        require_finite(self)
        require_at_least(0, seed=self.seed)

    @abstractmethod
    def search(self, fitting: "LabelledFeatures", val: "LabelledFeatures | None", listeners: Listeners) -> "Search":
        """Fit every setting on the fitting rows, and choose one on the validation rows.

        Call it by `tfl.heads.search.search`, which also checks the head.

        Raises:
          RunError: training diverged.
        """

    def fit(
        self,
        train: "Examples",
        num_classes: int,
        val: "Examples | None" = None,
        listeners: Listeners = Listeners(),
        class_weights: "np.ndarray | None" = None,
    ) -> "tuple[keras.Model, list[Epoch]]":
        """Train on all rows at once, if the recipe has no choices.

        Args:
          val: rows that are only measured.
          class_weights: weight of a row of each class `(c,)`; 1 if None.

        Returns:
          The head, features `(n, d)` to logits `(n, c)`, and one entry an epoch.
        """
        raise NotImplementedError(f"the recipe {self.name} has choices: search")

    @property
    def has_one_setting(self) -> bool:
        """True if there is nothing to choose, neither a setting nor, as `mlp` does, an epoch."""
        if not self.has_choices:
            return True
        return bool(self.one_setting) and all(len(getattr(self, name)) == 1 for name in self.one_setting)

    def with_one_setting(self) -> Self:
        """Return the recipe with one setting, for rows too few to choose on."""
        candidates = {name: one for name, one in self.one_setting.items() if len(getattr(self, name)) > 1}
        return replace(self, **candidates)

    def repeat(self, num_begun: int) -> Self:
        """Return the recipe that repeats what this one did.

        Args:
          num_begun: how many recipes were begun; see `Search.begun`.
        """
        return self
