"""The recipe `best`: other recipes under one budget of time; validation chooses between them."""

import logging
import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Self

from tfl.errors import RunError
from tfl.heads.grid import Grid
from tfl.heads.knn import Knn
from tfl.heads.logistic import Logistic
from tfl.heads.mlp import Mlp
from tfl.heads.recipe import Recipe
from tfl.heads.ridge import Ridge
from tfl.heads.trials import Listeners, Trial
from tfl.specs.checks import require_at_least, require_positive

if TYPE_CHECKING:
    from tfl.heads.rows import LabelledFeatures
    from tfl.heads.search import Search

logger = logging.getLogger(__name__)

CANDIDATES: tuple[Recipe, ...] = (  # the quick ones first
    Ridge(),
    Logistic(),
    Knn(),
    Grid(),
    Mlp(),
    Mlp(hidden=(2048,)),
    Mlp(hidden=(1024, 1024), epochs=30),
    Mlp(hidden=(2048,), dropout=0.6, epochs=40),
)
UNLIMITED_SECONDS = 1e9


@dataclass(frozen=True)
class Best(Recipe):
    """Ridge, logistic, knn, grid and several mlp, as long as time is left; validation chooses."""

    name: ClassVar = "best"
    summary: ClassVar = "all of these while `--seconds` last"
    choice: ClassVar = "all of it"
    advice: ClassVar = "try one recipe: --recipe logistic"
    memory_copies: ClassVar = (3.0, 4.0)
    is_compound: ClassVar = True

    seconds: float = 600.0
    """Budget of the search; no recipe is begun after it. Refitting the chosen one comes on top."""
    candidates: int = 8
    """Most recipes that are begun, in the order above."""
    seed: int = 0
    """Seed of every recipe."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(seconds=self.seconds)
        require_at_least(1, candidates=self.candidates)

    def repeat(self, num_begun: int) -> Self:
        """Return a search of the recipes that time allowed then, and no others."""
        return replace(self, seconds=UNLIMITED_SECONDS, candidates=num_begun)

    def search(self, fitting: "LabelledFeatures", val: "LabelledFeatures | None", listeners: Listeners) -> "Search":
        """Run the candidates in order until the time is spent; the first one always runs.

        Raises:
          RunError: there are no validation rows, or every candidate failed; a warning tells of one
            among others.
        """
        from tfl.heads.search import choose_trial

        if val is None:
            raise RunError("the recipe best chooses between recipes on validation rows, and there are none")
        searches, begun = self._run_candidates(fitting, val, listeners)
        chosen = choose_trial([found.trial for found in searches])
        num_before = sum(len(found.trials) for found in searches[:chosen])
        trials: list[Trial] = []
        for found in searches:
            trials += found.trials
        best = searches[chosen]
        return replace(best, trials=trials, chosen=num_before + best.chosen, begun=begun)

    def _run_candidates(
        self, fitting: "LabelledFeatures", val: "LabelledFeatures", listeners: Listeners
    ) -> tuple[list["Search"], int]:
        """Return the searches that succeeded, at least one, and how many were begun."""
        from tfl.heads.model import require_finite

        started = time.monotonic()
        searches: list[Search] = []
        failures: list[RunError] = []
        for candidate in CANDIDATES[: self.candidates]:
            num_begun = len(searches) + len(failures)
            if num_begun and time.monotonic() - started > self.seconds:
                label = _describe(candidate)
                logger.info("the %g seconds are spent: %s and all recipes after it are left out", self.seconds, label)
                break
            try:
                found = replace(candidate, seed=self.seed).search(fitting, val, listeners)  # type: ignore[call-arg]
                require_finite(found.head, "it diverged", "the other recipes go on")
                searches.append(found)
            except RunError as error:
                logger.warning("%s is left out: %s", _describe(candidate), error)
                failures.append(error)
        if not searches:
            raise failures[0]
        return searches, len(searches) + len(failures)


def _describe(recipe: Recipe) -> str:
    """Return the recipe's name and the settings that are not its defaults."""
    words = [recipe.name]
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if value != field.default:
            words.append(f"{field.name}={value}")
    return " ".join(words)
