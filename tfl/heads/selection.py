"""Selections applied to a cache: its views, its classes, and the weight of each class."""

import logging
from collections.abc import Mapping

import numpy as np

from tfl import datasets
from tfl.cache import Cache
from tfl.errors import CacheError, RunError
from tfl.specs import VIEWS, Role, View
from tfl.specs.training import Selection

logger = logging.getLogger(__name__)

MAX_CLASSES_SHOWN = 50


def require_selection(cache: Cache, selection: Selection) -> None:
    """Refuse, before anything is trained, a selection that the cache cannot serve.

    Raises:
      CacheError: the cache lacks training rows, or views.
      RunError: a class is none of the cache's, fewer than two have training rows, none has rows of
        another role, or the rows lose classes and `selection.allow_missing_classes` is not set.
    """
    _require_views(cache, selection)
    names = selection.classes or cache.class_names
    roles = dict.fromkeys(("train", *cache.num_rows))  # a cache without training rows is refused
    counts = {role: count_rows_by_class(cache, role, selection) for role in roles}
    for role, of_role in counts.items():
        present = [names[label] for label in np.flatnonzero(of_role)]
        if len(present) < (2 if role == "train" else 1):
            raise RunError(
                f"a head tells classes apart, but the {role} rows of {cache.path} are all of "
                f"{', '.join(present) or 'other classes'}; classes asked for: {', '.join(names[:MAX_CLASSES_SHOWN])}"
            )
    _require_coverage(cache, selection, counts, names)
    _warn_of_missing_val(cache, counts, names)


def _require_views(cache: Cache, selection: Selection) -> None:
    missing = [view for view in selection.views if view not in cache.views]
    if missing:
        every = " ".join(view for view in VIEWS if view in (*cache.views, *missing))
        raise CacheError(
            f"{cache.path} has no view {' '.join(missing)}; it has {' '.join(cache.views)}. Precompute again with "
            f"--views {every}: a view added later costs that view alone"
        )


def _require_coverage(
    cache: Cache, selection: Selection, counts: Mapping[Role, np.ndarray], names: tuple[str, ...]
) -> None:
    """Refuse classes that no head can get right; warn of them if the selection allows them.

    Raises:
      RunError: see `datasets.require_coverage`.
    """
    datasets.require_coverage(
        counts,
        names,
        title=f"the rows of {cache.path} lose classes:",
        advice="precompute other splits, name the classes to tell apart (--classes), or train on the rows as they "
        "are: --allow-missing-classes",
        is_allowed=selection.allow_missing_classes,
        error=RunError,
    )


def _warn_of_missing_val(cache: Cache, counts: Mapping[Role, np.ndarray], names: tuple[str, ...]) -> None:
    """Warn of classes that have training rows but no validation rows."""
    if "val" not in counts:
        return
    missing = np.flatnonzero((counts["val"] == 0) & (counts["train"] > 0))
    if len(missing):
        logger.warning(
            "the val rows of %s have none of %s: settings are chosen on the other classes",
            cache.path,
            datasets.format_classes(missing, counts["train"], names),
        )


def select_views(cache: Cache, selection: Selection) -> tuple[View, ...]:
    """Return the views that a selection means."""
    return selection.views or cache.views


def select_classes(cache: Cache, selection: Selection) -> tuple[int, ...]:
    """Return the labels of the classes that a selection names; empty for all classes.

    Raises:
      RunError: a name is no class of the cache.
    """
    for name in selection.classes:
        if name not in cache.class_names:
            known = ", ".join(cache.class_names[:MAX_CLASSES_SHOWN])
            raise RunError(f"{cache.path} has no class {name!r}; its classes are {known}")
    return tuple(cache.class_names.index(name) for name in selection.classes)


def count_rows_by_class(cache: Cache, role: Role, selection: Selection) -> np.ndarray:
    """Return the number of rows of each selected class, `(c,)`."""
    counts = np.bincount(cache.read_labels(role), minlength=cache.num_classes)
    classes = select_classes(cache, selection)
    return counts[list(classes)] if classes else counts


def compute_class_weights(counts: np.ndarray, selection: Selection) -> np.ndarray:
    """Return the weight of a row of each class, `(c,)`.

    It is 1, or for `balanced` n / (c n_k), which gives all classes with rows the same weight
    together.
    """
    if selection.class_weight == "none":
        return np.ones(len(counts), np.float32)
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 1).astype(np.float32)


def renumber_classes(labels: np.ndarray, classes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as their places in `classes`, and which rows have one there, `(n,)` bool."""
    places = np.full(max(int(labels.max(initial=0)), *classes) + 1, -1, np.int64)
    places[list(classes)] = np.arange(len(classes))
    new = places[labels]
    is_kept = new >= 0
    return new[is_kept], is_kept
