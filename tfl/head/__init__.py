"""Recipes that fit a new head, features to logits, on cached features.

A recipe's search fits every setting on the fitting rows, chooses on the validation rows, and can then be fitted on
everything.
"""

from collections.abc import Callable
from dataclasses import replace

import keras

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
from tfl.head.model import require_finite as _require_finite
from tfl.head.search import Epoch, Listeners, Search, Trial
from tfl.head.sgd import fit
from tfl.keras_settings import pinned
from tfl.recipes import Best, Grid, Knn, Logistic, Mlp, Recipe, Reference, Ridge, name_of

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
    "require_finite",
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


ADVICE: dict[type[Recipe], str] = {
    Reference: "try a smaller --learning-rate",
    Grid: "try smaller values of --learning-rate",
    Logistic: "try larger values of --l2",
    Ridge: "try larger values of --l2",
    Mlp: "try a smaller --learning-rate",
    Knn: "precompute again with --feature-dtype float32 and --compute-dtype float32",
    Best: "try one recipe: --recipe logistic",
}
"""What to try where a recipe's head is not finite."""


def require_finite(model: keras.Model, recipe: Recipe) -> keras.Model:
    """Return the head that a recipe made, if all its weights are numbers.

    Raises:
      RunError: recipe, tensor, how many of its values are not finite, and what to try.
    """
    _require_finite(model, f"the recipe {name_of(recipe)} diverged", ADVICE[type(recipe)])
    return model


@pinned()
def search(recipe: Recipe, fitting: Rows, val: Rows | None, listeners: Listeners = Listeners()) -> Search:  # noqa: B008
    """Carry a recipe out.

    Args:
      val: the rows to choose on; without them the last setting of a recipe is taken, which should have one only.

    Raises:
      RunError: training diverged, or the head is not finite; or `best` without validation rows.
    """
    if isinstance(recipe, Best) and val is None:
        raise RunError("the recipe best chooses between recipes on validation rows, and there are none")
    found = SEARCHES[type(recipe)](recipe, fitting, val, listeners)
    require_finite(found.head, recipe)

    @pinned()
    def refit(rows: Rows) -> keras.Model:
        return require_finite(found.refit(rows), recipe)

    return replace(found, refit=refit)
