"""Labelled features on their way to a head: all in memory, or streamed from a cache."""

import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
from keras import ops

from tfl import datasets
from tfl.cache import Cache
from tfl.errors import CacheError, RunError
from tfl.specs import VIEWS, Role, View
from tfl.specs.recipes import Selection

logger = logging.getLogger(__name__)

BLOCK_BYTES = 64 << 20  # of float32 features: what streaming holds once as read and once on the device


class Examples(Protocol):
    """Labelled features, given in blocks of rows, over and over."""

    @property
    def num_rows(self) -> int:
        """Rows of all blocks together."""

    @property
    def num_features(self) -> int:
        """The d of `(n, d)`."""

    @property
    def num_views(self) -> int:
        """How many views of each row a block holds, v."""

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Any, Any]]:
        """Features `(v m, d)`, view after view, and the labels of those rows.

        Every row comes once, in which block by chance of `rng`.
        """


def to_device(features: Any, labels: Any) -> tuple[Any, Any]:
    """The same as tensors, float32 and int32; those that are there already stay."""
    return ops.convert_to_tensor(features, "float32"), ops.convert_to_tensor(labels, "int32")


class InMemory:
    """All rows as one block."""

    def __init__(self, features: Any, labels: Any, num_views: int = 1) -> None:
        self.num_views = num_views
        num_stored, self.num_features = (int(size) for size in features.shape)
        self.num_rows = num_stored // num_views
        self._block = features, labels

    @classmethod
    def on_device(cls, features: np.ndarray, labels: np.ndarray, num_views: int = 1) -> Self:
        """The whole matrix as one tensor, moved to the device once for all epochs."""
        return cls(*to_device(features, labels), num_views)

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Any, Any]]:
        """The one block, always the same."""
        yield self._block


@dataclass(frozen=True)
class Streamed:
    """Rows of a cache's role, read anew in every pass; memory is that of a block, however many rows there are.

    Attributes:
      batch_size: blocks hold a multiple of it, so that only the last batch of a pass is short.
      views: see `Examples.blocks`; with `is_averaged` their mean stands in their place, as one view.
      classes: labels of the cache that count, renumbered from 0 in this order; all of them if empty.
    """

    cache: Cache
    role: Role
    batch_size: int = 1
    views: tuple[View, ...] = ("original",)
    is_averaged: bool = False
    classes: tuple[int, ...] = ()

    @cached_property
    def num_rows(self) -> int:
        """Rows of the role that are of the classes; 0 for one that the cache does not have, which `blocks` refuses."""
        if self.classes and self.role in self.cache.num_rows:
            return int(np.isin(self.cache.read_labels(self.role), self.classes).sum())
        return self.cache.num_rows.get(self.role, 0)

    @property
    def num_features(self) -> int:
        """Columns of its features."""
        return self.cache.num_features

    @property
    def num_views(self) -> int:
        """Views that a block holds of each row."""
        return 1 if self.is_averaged else len(self.views)

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of nearly equal size, of about `BLOCK_BYTES` at most; see `Cache.blocks`. Other classes are cut first.

        Equal, because a short last block would hold few chunks: where images are stored class by class, few classes,
        and the epoch would end with them: on CIFAR-10 sorted by class that cost 2 to 7 points of test accuracy (n = 3).
        """
        row_bytes = np.dtype(np.float32).itemsize * self.num_features * len(self.views)
        largest = max(1, BLOCK_BYTES // row_bytes)
        num_blocks = max(1, math.ceil(self.num_rows / largest))
        block_rows = max(1, math.ceil(self.num_rows / (num_blocks * self.batch_size))) * self.batch_size
        seed = None if rng is None or len(self.views) == 1 else int(rng.integers(1 << 31))
        passes = [
            self.cache.blocks(
                self.role,
                block_rows if not self.classes else largest,
                rng if seed is None else np.random.default_rng(seed),  # the same order for every view
                view=view,
            )
            for view in self.views
        ]
        if self.classes:
            passes = [_cut(each, self.classes, block_rows) for each in passes]
        return passes[0] if len(passes) == 1 else self._together(passes)

    def _together(
        self, passes: list[Iterator[tuple[np.ndarray, np.ndarray]]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Joined blocks, of which none is held while the next one is read."""
        while of_views := tuple(itertools.chain.from_iterable(itertools.islice(each, 1) for each in passes)):
            block = self._joined(of_views)
            del of_views
            yield block
            del block

    def _joined(self, of_views: tuple[tuple[np.ndarray, np.ndarray], ...]) -> tuple[np.ndarray, np.ndarray]:
        labels = of_views[0][1]
        if self.is_averaged:
            return average_views([block for block, _ in of_views]), labels
        return np.concatenate([block for block, _ in of_views]), np.tile(labels, len(of_views))


def _cut(
    blocks: Iterator[tuple[np.ndarray, np.ndarray]], classes: tuple[int, ...], num_rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of the classes, renumbered, in blocks of `num_rows`; only the last one is shorter."""
    features: list[np.ndarray] = []
    labels = np.zeros(0, np.int64)
    for block, labels_of_block in blocks:
        new, is_kept = renumbered(labels_of_block, classes)
        features, labels = [*features, block[is_kept]], np.concatenate([labels, new])
        del block
        while len(labels) >= num_rows:
            together = np.concatenate(features)
            yield together[:num_rows], labels[:num_rows]
            features, labels = [together[num_rows:].copy()], labels[num_rows:]
            del together
    if len(labels):
        yield np.concatenate(features), labels


def average_views(views: list[np.ndarray]) -> np.ndarray:
    """The float32 mean `(n, d)` of the features of several views."""
    total = views[0].astype(np.float32)
    for view in views[1:]:
        total += view
    total /= np.float32(len(views))
    return total


def renumbered(labels: np.ndarray, classes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The labels that are among `classes`, as their places there; and which rows those are, `(n,)` bool."""
    places = np.full(max(int(labels.max(initial=0)), *classes) + 1, -1, np.int64)
    places[list(classes)] = np.arange(len(classes))
    new = places[labels]
    is_kept = new >= 0
    return new[is_kept], is_kept


@dataclass(frozen=True)
class LabelledFeatures:
    """Labelled rows in memory, for recipes that need them all at once.

    Attributes:
      views: float32 `(n, d)` for each view.
      labels: int64 `(n,)`.
      num_classes: c.
      class_weights: float32 `(c,)`, what a row of each class counts.
      parts: rows of which these are the concatenation: sums over them need not be formed again.
    """

    views: tuple[np.ndarray, ...]
    labels: np.ndarray
    num_classes: int
    class_weights: np.ndarray
    parts: tuple["LabelledFeatures", ...] = ()
    _memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def num_rows(self) -> int:
        """How many images."""
        return len(self.labels)

    @property
    def num_features(self) -> int:
        """The d of `(n, d)`."""
        return int(self.views[0].shape[1])

    @property
    def features(self) -> np.ndarray:
        """The mean of the views, float32 `(n, d)`."""
        if len(self.views) == 1:
            return self.views[0]
        return self.remember("features", lambda: average_views(list(self.views)))  # type: ignore[no-any-return]

    @property
    def weights(self) -> np.ndarray:
        """What each row counts, float32 `(n,)`."""
        return np.asarray(self.class_weights[self.labels])

    def remember(self, name: str, make: Any) -> Any:
        """What `make()` returned when first asked for this name: recipes share what is costly."""
        if name not in self._memo:
            self._memo[name] = make()
        return self._memo[name]

    def part(self, rows: slice | np.ndarray) -> "LabelledFeatures":
        """Some of the rows; a slice copies nothing."""
        return replace(
            self, views=tuple(view[rows] for view in self.views), labels=self.labels[rows], parts=(), _memo={}
        )

    def stacked(self) -> InMemory:
        """The rows for a recipe that draws one view of each in every epoch."""
        features = self.views[0] if len(self.views) == 1 else np.concatenate(self.views)
        return InMemory.on_device(features, np.tile(self.labels, len(self.views)), len(self.views))


def read_rows(cache: Cache, role: Role, selection: Selection) -> LabelledFeatures:
    """Rows of a cache in memory.

    Raises:
      CacheError: the cache lacks the role or a view.
      RunError: a class that was asked for is none of the cache's.
    """
    labels = cache.read_labels(role)
    views = tuple(cache.read_view(role, view).astype(np.float32, copy=False) for view in select_views(cache, selection))
    classes = select_classes(cache, selection)
    if classes:
        labels, is_kept = renumbered(labels, classes)
        views = tuple(view[is_kept] for view in views)
    counts = np.bincount(labels, minlength=len(classes) or cache.num_classes)
    return LabelledFeatures(views, labels, len(counts), class_weights(counts, selection))


def count_rows_by_class(cache: Cache, role: Role, selection: Selection) -> np.ndarray:
    """How many rows each of the selection's classes has, `(c,)`."""
    counts = np.bincount(cache.read_labels(role), minlength=cache.num_classes)
    classes = select_classes(cache, selection)
    return counts[list(classes)] if classes else counts


def require_selection(cache: Cache, selection: Selection) -> None:
    """Refuse, before anything is trained, what the selection cannot have of this cache.

    Raises:
      CacheError: the cache lacks training rows, or views.
      RunError: a class is none of the cache's, fewer than two have training rows, none has rows of another role, or
        the rows lose classes and `selection.allow_missing_classes` is not set.
    """
    if missing := [view for view in selection.views if view not in cache.views]:
        every = " ".join(view for view in VIEWS if view in (*cache.views, *missing))
        raise CacheError(
            f"{cache.path} has no view {' '.join(missing)}; it has {' '.join(cache.views)}. Precompute again with "
            f"--views {every}: a view added later costs that view alone"
        )
    names = selection.classes or cache.class_names
    counts_by_role = {
        role: count_rows_by_class(cache, role, selection) for role in dict.fromkeys(("train", *cache.num_rows))
    }
    for role, counts in counts_by_role.items():
        present = [names[i] for i in np.flatnonzero(counts)]
        if len(present) < (2 if role == "train" else 1):
            raise RunError(
                f"a head tells classes apart, but the {role} rows of {cache.path} are all of "
                f"{', '.join(present) or 'other classes'}; classes asked for: {', '.join(names[:50])}"
            )
    _require_coverage(cache, selection, counts_by_role, names)


def _require_coverage(
    cache: Cache, selection: Selection, counts: dict[Role, np.ndarray], names: tuple[str, ...]
) -> None:
    """Refuse classes that no head can get right, or tell of them where they are allowed; tell of classes without val.

    Raises:
      RunError: see `datasets.uncovered`.
    """
    if faults := datasets.find_lost_classes(counts, names):
        lines = [f"the rows of {cache.path} lose classes:", *(f"  {fault}" for fault in faults)]
        if not selection.allow_missing_classes:
            raise RunError(
                *lines,
                "precompute other splits, name the classes to tell apart (--classes), or train on the rows as they "
                "are: --allow-missing-classes",
            )
        logger.warning("%s", "\n".join(lines))
    if "val" in counts and len(without := np.flatnonzero((counts["val"] == 0) & (counts["train"] > 0))):
        logger.warning(
            "the val rows of %s have none of %s: settings are chosen on the other classes",
            cache.path,
            datasets.listed_classes(without, counts["train"], names),
        )


def class_weights(counts: np.ndarray, selection: Selection) -> np.ndarray:
    """What a row of each class counts, `(c,)`: 1, or n / (c n_k), with which all classes count the same together."""
    if selection.class_weight == "none":
        return np.ones(len(counts), np.float32)
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 1).astype(np.float32)


def select_views(cache: Cache, selection: Selection) -> tuple[View, ...]:
    """The views that a selection means."""
    return selection.views or cache.views


def select_classes(cache: Cache, selection: Selection) -> tuple[int, ...]:
    """The labels that a selection names; empty for all.

    Raises:
      RunError: one is no class of the cache.
    """
    for name in selection.classes:
        if name not in cache.class_names:
            raise RunError(f"{cache.path} has no class {name!r}; its classes are {', '.join(cache.class_names[:50])}")
    return tuple(cache.class_names.index(name) for name in selection.classes)


def split_rows(
    rows: LabelledFeatures, fraction: float, seed: int, class_names: tuple[str, ...]
) -> tuple[LabelledFeatures, LabelledFeatures, LabelledFeatures]:
    """Divide rows into fitting rows, validation rows and both together, stratified.

    `fraction` of each class is for validation, rounded; at least one row and not all of a class with two rows or more,
    none of a class with a single row.

    Raises:
      RunError: no class has two rows.
    """
    rng = np.random.default_rng(seed)
    is_validation = np.zeros(rows.num_rows, bool)
    single = []
    for label in range(rows.num_classes):
        of_class = np.flatnonzero(rows.labels == label)
        if len(of_class) == 1:
            single.append(label)
        if len(of_class) < 2:
            continue
        num = min(max(1, round(fraction * len(of_class))), len(of_class) - 1)
        is_validation[rng.permutation(of_class)[:num]] = True
    if not is_validation.any():
        raise RunError(
            "no class has two training rows, so none is left to choose settings on: precompute with validation rows of "
            "their own (--val-split), or take the recipe reference, which has nothing to choose"
        )
    if single:
        logger.warning(
            "%d of %d classes have a single training row each and no validation row: settings are chosen on the others "
            "(%s)",
            len(single),
            np.count_nonzero(np.bincount(rows.labels)),
            datasets.listed_classes(single, np.bincount(rows.labels), class_names),
        )
    order = np.concatenate([np.flatnonzero(~is_validation), np.flatnonzero(is_validation)])
    together = rows.part(order)
    num_fitting = int((~is_validation).sum())
    fitting, val = together.part(np.s_[:num_fitting]), together.part(np.s_[num_fitting:])
    return fitting, val, replace(together, parts=(fitting, val))


def concatenate_rows(first: LabelledFeatures, second: LabelledFeatures) -> LabelledFeatures:
    """The rows of both, one after the other."""
    views = tuple(np.concatenate(pair) for pair in zip(first.views, second.views, strict=True))
    labels = np.concatenate([first.labels, second.labels])
    return replace(first, views=views, labels=labels, parts=(first, second), _memo={})
