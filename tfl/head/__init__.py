"""Recipes that fit a new head, features to logits, on cached features.

A recipe's search fits every setting on the fitting rows, chooses on the validation rows, and can then be fitted on
everything.
"""

from collections.abc import Callable

from tfl.errors import RunError
from tfl.head import best, knn, logistic, mlp, ridge, sgd
from tfl.head.examples import (
    Examples,
    InMemory,
    Rows,
    Streamed,
    class_weights,
    classes_of,
    counts_of,
    divide,
    joined,
    mean_of,
    read_rows,
    require_selection,
    views_of,
)
from tfl.head.model import load, logits_of, with_temperature
from tfl.head.search import Epoch, Listeners, Search, Trial
from tfl.head.sgd import fit
from tfl.recipes import Best, Grid, Knn, Logistic, Mlp, Recipe, Reference, Ridge

__all__ = [
    "Epoch",
    "Examples",
    "InMemory",
    "Listeners",
    "Rows",
    "Search",
    "Streamed",
    "Trial",
    "class_weights",
    "classes_of",
    "counts_of",
    "divide",
    "fit",
    "joined",
    "load",
    "logits_of",
    "mean_of",
    "read_rows",
    "require_selection",
    "search",
    "views_of",
    "with_temperature",
]


SEARCHES: dict[type[Recipe], Callable[..., Search]] = {
    Reference: sgd.search,
    Grid: sgd.search_grid,
    Logistic: logistic.search,
    Ridge: ridge.search,
    Mlp: mlp.search,
    Knn: knn.search,
    Best: best.search,
}


def search(recipe: Recipe, fitting: Rows, val: Rows | None, listeners: Listeners = Listeners()) -> Search:  # noqa: B008
    """Carry a recipe out.

    Args:
      val: the rows to choose on; without them the last setting of a recipe is taken, which should have one only.

    Raises:
      RunError: training diverged; or `best` without validation rows.
    """
    if isinstance(recipe, Best) and val is None:
        raise RunError("the recipe best chooses between recipes on validation rows, and there are none")
    return SEARCHES[type(recipe)](recipe, fitting, val, listeners)
