"""Every recipe under one budget of time; validation chooses between them."""

import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tfl.errors import RunError
from tfl.heads import knn, logistic, mlp, ridge
from tfl.heads.examples import LabelledFeatures
from tfl.heads.model import require_finite
from tfl.heads.search import Listeners, Search, Trial, choose_trial
from tfl.heads.sgd import search_grid
from tfl.specs.recipes import Best, Grid, Knn, Logistic, Mlp, Ridge

logger = logging.getLogger(__name__)

# After the quick ones; the first is the recipe's own setting.
NETWORKS = (
    Mlp(),
    Mlp(hidden=(2048,)),
    Mlp(hidden=(1024, 1024), epochs=30),
    Mlp(hidden=(2048,), dropout=0.6, epochs=40),
)


def search(
    recipe: Best, fitting: LabelledFeatures, val: LabelledFeatures, listeners: Listeners = Listeners()
) -> Search:
    """Quick recipes first; none is begun when the time is spent, but the first one always is.

    Raises:
      RunError: every recipe that was begun failed; of one that fails among others only a warning is left.
    """
    started = time.monotonic()
    searches: list[Search] = []
    failures: list[RunError] = []
    begun = 0
    for search_one, name in itertools.islice(_recipes(recipe, fitting, val, listeners), recipe.candidates):
        if begun and time.monotonic() - started > recipe.seconds:
            logger.info("the %g seconds are spent: %s is left out, and what would come after it", recipe.seconds, name)
            break
        begun += 1
        try:
            found = search_one()
            require_finite(found.head, "it diverged", "the other recipes go on")
            searches.append(found)
        except RunError as error:
            logger.warning("%s is left out: %s", name, error)
            failures.append(error)
    if not searches:
        raise failures[0]
    chosen = choose_trial([found.trial for found in searches])
    before = sum(len(found.trials) for found in searches[:chosen])
    trials: list[Trial] = [trial for found in searches for trial in found.trials]
    return replace(searches[chosen], trials=trials, chosen=before + searches[chosen].chosen, begun=begun)


def _recipes(
    recipe: Best, fitting: LabelledFeatures, val: LabelledFeatures, listeners: Listeners
) -> Iterator[tuple[Any, str]]:
    seed = recipe.seed
    yield lambda: ridge.search(Ridge(seed=seed), fitting, val, listeners), "ridge"
    yield lambda: logistic.search(Logistic(seed=seed), fitting, val, listeners), "logistic"
    yield lambda: knn.search(Knn(seed=seed), fitting, val, listeners), "knn"
    yield lambda: search_grid(Grid(seed=seed), fitting, val, listeners), "grid"
    for network in NETWORKS:
        seeded = replace(network, seed=seed)
        yield lambda seeded=seeded: mlp.search(seeded, fitting, val, listeners), f"mlp {network.hidden}"
