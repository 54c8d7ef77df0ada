"""Selection and Shots: the rows of a cache that heads are trained on."""

from dataclasses import dataclass
from typing import Literal

from tfl.errors import SpecError
from tfl.specs.checks import require_at_least
from tfl.specs.views import VIEWS, View


@dataclass(frozen=True)
class Selection:
    """The rows of a cache that a head is trained on, and how its settings are chosen."""

    views: tuple[View, ...] = ()
    """Views of the cache to use; all if none is named. Evaluation averages their features."""
    classes: tuple[str, ...] = ()
    """Classes to tell apart, in this order; all of them if none is named."""
    validation_fraction: float = 0.1
    """Share of each class's training rows to choose settings on.
    Used if the cache has no val rows and there are settings to choose.
    A class with two or more rows gives at least one; a class with a single row gives none."""
    class_weight: Literal["none", "balanced"] = "none"
    """`balanced` weights every row by the inverse of its class's frequency."""
    calibrate: bool = False
    """Fit a temperature on the validation rows and fold it into the head."""
    allow_missing_classes: bool = False
    """Also train if val or test rows have a class without training rows.
    The same for test rows that are all of one class."""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise SpecError(f"validation_fraction is between 0 and 1, got {self.validation_fraction}")
        if len(self.classes) == 1 or len(set(self.classes)) != len(self.classes):
            raise SpecError(f"two or more different classes are needed, got {' '.join(self.classes)}")
        if not set(self.views) <= set(VIEWS) or len(set(self.views)) != len(self.views):
            raise SpecError(f"views are some of {', '.join(VIEWS)}, each once; got {' '.join(self.views)}")


@dataclass(frozen=True)
class Shots:
    """A few-shot study: how many images a recipe needs."""

    shots: tuple[int, ...] = ()
    """Training images per class, one or more numbers.
    The study reports mean and standard deviation of the accuracy for each number; no head is kept."""
    repeats: int = 5
    """Random draws of training images for each number of shots."""

    def __post_init__(self) -> None:
        require_at_least(1, repeats=self.repeats)
        if self.shots:
            require_at_least(1, shots=min(self.shots))
