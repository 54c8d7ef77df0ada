"""The records of `shots.json`: a few-shot study."""

from dataclasses import dataclass
from typing import Any

from tfl.files.codec import Count, NotNegative, PositiveCount, Share
from tfl.specs.training import Selection


@dataclass(frozen=True)
class FewShotResult:
    """A recipe fitted on that many images of each class.

    Attributes:
      accuracies: of every draw; `mean` and `standard_deviation` are of these.
      seconds: of all draws together.
    """

    recipe: str
    shots: PositiveCount
    mean: Share
    standard_deviation: NotNegative
    accuracies: list[Share]
    seconds: NotNegative


@dataclass(frozen=True, kw_only=True)
class FewShotRecord:
    """The content of `shots.json`.

    Attributes:
      recipes: the settings of each.
      repeats: random draws of each number of images.
      validation_rows: how many rows the heads are measured on.
    """

    cache: str
    fingerprint: str
    selection: Selection
    recipes: dict[str, dict[str, Any]]
    repeats: PositiveCount
    validation_rows: Count
    versions: dict[str, str]
    device: str
    results: list[FewShotResult]
