"""Recipes: named ways to train a head, features to logits, on cached features.

A recipe is a frozen dataclass of its settings that also holds everything else that varies by recipe
(see `Recipe`). To add one, write a file with it and name it in `KINDS`. Importing this package
imports no framework and no numerics.
"""

from tfl.errors import SpecError
from tfl.heads.best import Best
from tfl.heads.grid import Grid
from tfl.heads.knn import Knn
from tfl.heads.logistic import Logistic
from tfl.heads.mlp import Mlp
from tfl.heads.recipe import Recipe
from tfl.heads.reference import Reference
from tfl.heads.ridge import Ridge

__all__ = [
    "RECIPES",
    "Best",
    "Grid",
    "Knn",
    "Logistic",
    "Mlp",
    "Recipe",
    "Reference",
    "Ridge",
    "register",
    "unregister",
]

KINDS = (Reference, Grid, Logistic, Ridge, Mlp, Knn, Best)
RECIPES: dict[str, type[Recipe]] = {kind.name: kind for kind in KINDS}
"""Every recipe by the word that `--recipe` takes."""


def register(kind: type[Recipe]) -> None:
    """Add a recipe to those that `--recipe` takes and that run folders may name.

    Raises:
      SpecError: there is a recipe of that name already.
    """
    if kind.name in RECIPES:
        raise SpecError(f"there is a recipe {kind.name!r} already: {RECIPES[kind.name].__qualname__}")
    RECIPES[kind.name] = kind


def unregister(kind: type[Recipe]) -> None:
    """Take a recipe that `register` added away again."""
    del RECIPES[kind.name]
