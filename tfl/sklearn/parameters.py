"""Parameters of estimators, as scikit-learn gives them, as specs and recipes."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from tfl.heads import RECIPES, Recipe
from tfl.sklearn.errors import EstimatorError
from tfl.specs import FeatureSpec, Selection
from tfl.text import suggest_name

FEATURE_PARAMETERS = (
    *("backbone", "weights", "image_size", "resize_mode", "interpolation", "antialias"),
    *("layers", "pooling", "compute_dtype"),
)
"""Fields of a FeatureSpec that are parameters of the estimators, under the same names."""
EXTRACTOR_PARAMETERS = (*FEATURE_PARAMETERS, "engine", "batch_size", "memory_limit")
SEPARATOR = "__"  # scikit-learn's, between a parameter and the parameter of what it holds


def make_feature_spec(parameters: Mapping[str, Any]) -> FeatureSpec:
    """Return the spec of the features that an extractor's parameters ask for.

    Raises:
      SpecError: a value is not of its type.
    """
    values = {name: to_plain(parameters[name]) for name in FEATURE_PARAMETERS}
    for name in ("layers", "pooling"):
        values[name] = to_tuple(values[name])
    return FeatureSpec(**values)


def make_selection(validation_fraction: float, class_weight: str | None, calibrate: bool) -> Selection:
    """Return how settings are chosen and classes weighted.

    Raises:
      EstimatorError: `class_weight` is neither None nor `balanced`.
      SpecError: see `Selection`.
    """
    if class_weight not in (None, "balanced"):
        raise EstimatorError(f"class_weight is None or 'balanced', got {class_weight!r}")
    return Selection(
        validation_fraction=to_plain(validation_fraction),
        class_weight="balanced" if class_weight else "none",
        calibrate=bool(calibrate),
    )


def find_recipe(recipe: Any) -> Recipe:
    """Return the recipe that is meant by a name, or the recipe itself.

    Raises:
      EstimatorError: there is none of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str) and recipe in RECIPES:
        return RECIPES[recipe]()
    near = suggest_name(recipe, list(RECIPES)) if isinstance(recipe, str) else ""
    raise EstimatorError(f"recipe is one of {', '.join(RECIPES)}, or a recipe of tfl; got {recipe!r}{near}")


def list_settings(recipe: Any) -> dict[str, Any]:
    """Return a recipe's settings as scikit-learn names them, `recipe__l2`; none of an unknown recipe."""
    try:
        found = find_recipe(recipe)
    except EstimatorError:
        return {}
    return {f"recipe{SEPARATOR}{field.name}": getattr(found, field.name) for field in fields(found)}


def change_settings(recipe: Any, settings: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other settings; a single value stands for a list of one candidate.

    Raises:
      EstimatorError: the recipe has no such setting, or does not take its value.
      SpecError: likewise.
    """
    found = find_recipe(recipe)
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    changed = {}
    for name, value in settings.items():
        if name not in values:
            near = suggest_name(name, list(values))
            raise EstimatorError(f"the recipe {found.name} has no setting {name!r}, but {', '.join(values)}{near}")
        changed[name] = to_tuple(value) if isinstance(values[name], tuple) else to_plain(value)
    try:
        return replace(found, **changed)
    except TypeError as error:  # a text where a number is compared
        raise EstimatorError(f"the recipe {found.name} does not take {changed}: {error}") from error


def to_plain(value: Any) -> Any:
    """Return one of numpy's numbers as Python's; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def to_tuple(value: Any) -> tuple[Any, ...]:
    """Return a value, or the values of a list, an array or a tuple, as a tuple."""
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(to_plain(item) for item in value)
    return (to_plain(value),)
