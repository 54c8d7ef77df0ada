"""Labelled features in memory: read from a cache, split, concatenated."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from tfl import datasets
from tfl.cache import Cache
from tfl.errors import RunError
from tfl.heads.examples import InMemory, average_views
from tfl.heads.selection import compute_class_weights, renumber_classes, select_classes, select_views
from tfl.specs import Role
from tfl.specs.training import Selection

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True)
class LabelledFeatures:
    """Labelled rows in memory, for recipes that need them all at once.

    Attributes:
      views: float32 `(n, d)` for each view.
      labels: int64 `(n,)`.
      num_classes: c.
      class_weights: weight of a row of each class, float32 `(c,)`.
      parts: the rows that these were put together from, so that sums over them need not be computed
        again.
    """

    views: tuple[np.ndarray, ...]
    labels: np.ndarray
    num_classes: int
    class_weights: np.ndarray
    parts: tuple["LabelledFeatures", ...] = ()
    _memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def num_rows(self) -> int:
        """Number of images, n."""
        return len(self.labels)

    @property
    def num_features(self) -> int:
        """Columns of the features, d."""
        return int(self.views[0].shape[1])

    @property
    def features(self) -> np.ndarray:
        """The mean of the views, float32 `(n, d)`."""
        if len(self.views) == 1:
            return self.views[0]
        return self.remember("features", lambda: average_views(list(self.views)))

    @property
    def weights(self) -> np.ndarray:
        """The weight of each row, float32 `(n,)`."""
        return np.asarray(self.class_weights[self.labels])

    def remember(self, name: str, make: Callable[[], Value]) -> Value:
        """Return `make()` of the first call for this name: recipes share what is costly."""
        if name not in self._memo:
            self._memo[name] = make()
        value: Value = self._memo[name]
        return value

    def part(self, rows: slice | np.ndarray) -> "LabelledFeatures":
        """Return some of the rows; a slice copies nothing."""
        views = tuple(view[rows] for view in self.views)
        return replace(self, views=views, labels=self.labels[rows], parts=(), _memo={})

    def stacked(self) -> InMemory:
        """Return the rows for a recipe that draws one view of each in every epoch."""
        features = self.views[0] if len(self.views) == 1 else np.concatenate(self.views)
        return InMemory.on_device(features, np.tile(self.labels, len(self.views)), len(self.views))


def read_rows(cache: Cache, role: Role, selection: Selection) -> LabelledFeatures:
    """Read the rows of a role into memory.

    Raises:
      CacheError: the cache lacks the role or a view.
      RunError: a class that was asked for is none of the cache's.
    """
    labels = cache.read_labels(role)
    views = [cache.read_view(role, view) for view in select_views(cache, selection)]
    classes = select_classes(cache, selection)
    if classes:
        labels, is_kept = renumber_classes(labels, classes)
        views = [view[is_kept] for view in views]
    counts = np.bincount(labels, minlength=len(classes) or cache.num_classes)
    weights = compute_class_weights(counts, selection)
    return LabelledFeatures(tuple(map(_to_float32, views)), labels, len(counts), weights)


def _to_float32(view: np.ndarray) -> np.ndarray:
    return view.astype(np.float32, copy=False)


def split_rows(
    rows: LabelledFeatures, fraction: float, seed: int, class_names: tuple[str, ...]
) -> tuple[LabelledFeatures, LabelledFeatures, LabelledFeatures]:
    """Split rows, stratified, and return fitting rows, validation rows and both together.

    `fraction` of each class is for validation, rounded: at least one row and not all of a class
    with two rows or more, none of a class with a single row.

    Raises:
      RunError: no class has two rows.
    """
    is_validation = _draw_validation(rows, fraction, np.random.default_rng(seed))
    if not is_validation.any():
        raise RunError(
            "no class has two training rows, so none is left to choose settings on: precompute with validation rows of "
            "their own (--val-split), or take the recipe reference, which has nothing to choose"
        )
    _warn_of_single_rows(rows, class_names)
    order = np.concatenate([np.flatnonzero(~is_validation), np.flatnonzero(is_validation)])
    together = rows.part(order)
    num_fitting = int((~is_validation).sum())
    fitting, val = together.part(np.s_[:num_fitting]), together.part(np.s_[num_fitting:])
    return fitting, val, replace(together, parts=(fitting, val))


def _draw_validation(rows: LabelledFeatures, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return which rows are for validation, `(n,)` bool."""
    is_validation = np.zeros(rows.num_rows, bool)
    for label in range(rows.num_classes):
        of_class = np.flatnonzero(rows.labels == label)
        if len(of_class) < 2:
            continue
        num_val = min(max(1, round(fraction * len(of_class))), len(of_class) - 1)
        is_validation[rng.permutation(of_class)[:num_val]] = True
    return is_validation


def _warn_of_single_rows(rows: LabelledFeatures, class_names: tuple[str, ...]) -> None:
    counts = np.bincount(rows.labels, minlength=rows.num_classes)
    single = np.flatnonzero(counts == 1)
    if len(single):
        logger.warning(
            "%d of %d classes have a single training row each and no validation row: settings are chosen on the others "
            "(%s)",
            len(single),
            np.count_nonzero(counts),
            datasets.format_classes(single, counts, class_names),
        )


def concatenate_rows(first: LabelledFeatures, second: LabelledFeatures) -> LabelledFeatures:
    """Return the rows of both, one after the other."""
    views = tuple(np.concatenate(pair) for pair in zip(first.views, second.views, strict=True))
    labels = np.concatenate([first.labels, second.labels])
    return replace(first, views=views, labels=labels, parts=(first, second), _memo={})
