"""Recipes that fit a new head, features to logits, on cached features.

A recipe's search fits every setting on the fitting rows, chooses on the validation rows, and can then be fitted on
everything.
"""

from collections.abc import Callable
from dataclasses import replace

import keras

from tfl.errors import RunError
from tfl.heads import best, knn, logistic, mlp, ridge, sgd
from tfl.heads.examples import (
    Examples,
    InMemory,
    LabelledFeatures,
    Streamed,
    average_views,
    class_weights,
    concatenate_rows,
    count_rows_by_class,
    read_rows,
    require_selection,
    select_classes,
    select_views,
    split_rows,
)
from tfl.heads.model import apply_temperature, compute_logits, load_head
from tfl.heads.model import require_finite as _require_finite
from tfl.heads.search import Epoch, Listeners, Search, Trial
from tfl.heads.sgd import fit
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs.recipes import Best, Grid, Knn, Logistic, Mlp, Recipe, Reference, Ridge, recipe_name

__all__ = [
    "Epoch",
    "Examples",
    "InMemory",
    "LabelledFeatures",
    "Listeners",
    "Search",
    "Streamed",
    "Trial",
    "apply_temperature",
    "average_views",
    "class_weights",
    "compute_logits",
    "concatenate_rows",
    "count_rows_by_class",
    "fit",
    "load_head",
    "read_rows",
    "require_finite",
    "require_selection",
    "search",
    "select_classes",
    "select_views",
    "split_rows",
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
    _require_finite(model, f"the recipe {recipe_name(recipe)} diverged", ADVICE[type(recipe)])
    return model


@pin_keras_settings()
def search(
    recipe: Recipe, fitting: LabelledFeatures, val: LabelledFeatures | None, listeners: Listeners = Listeners()
) -> Search:
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

    @pin_keras_settings()
    def refit(rows: LabelledFeatures) -> keras.Model:
        return require_finite(found.refit(rows), recipe)

    return replace(found, refit=refit)
