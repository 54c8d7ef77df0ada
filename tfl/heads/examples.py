"""Labelled features as SGD takes them, in blocks: all in memory, or streamed from a cache."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
from keras import ops

from tfl.cache import Cache
from tfl.heads.selection import renumber_classes
from tfl.specs import Role, View

BLOCK_BYTES = 64 << 20  # of float32 features; streaming holds a block twice: as read, and on the device

Block = tuple[np.ndarray, np.ndarray]  # features (m, d) and labels (m,)


class Examples(Protocol):
    """Labelled features, given in blocks of rows, as often as they are asked for."""

    @property
    def num_rows(self) -> int:
        """Rows of all blocks together."""

    @property
    def num_features(self) -> int:
        """Columns of the features, d."""

    @property
    def num_views(self) -> int:
        """Views of each row that a block holds, v."""

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield features `(v m, d)`, view after view, and the labels of those rows.

        Every row comes once. If there is an `rng`, it decides which rows come in which block.
        """


def to_tensors(features: Any, labels: Any) -> tuple[Any, Any]:
    """Return features as a float32 tensor and labels as an int32 tensor."""
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
        """Return the whole matrix as one tensor, moved to the device once for all epochs."""
        return cls(*to_tensors(features, labels), num_views)

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield the one block, always the same."""
        yield self._block


@dataclass(frozen=True)
class Streamed:
    """Rows of a cache's role, read anew in every epoch; they take the memory of one block.

    Attributes:
      batch_size: blocks hold a multiple of it, so that only the last batch of an epoch is short.
      views: the views of each row in a block; see `Examples.blocks`.
      is_averaged: a block holds the mean of the views instead, as one view.
      classes: labels of the cache to keep, renumbered from 0 in this order; all of them if empty.
    """

    cache: Cache
    role: Role
    batch_size: int = 1
    views: tuple[View, ...] = ("original",)
    is_averaged: bool = False
    classes: tuple[int, ...] = ()

    @cached_property
    def num_rows(self) -> int:
        """Rows of the role in these classes; 0 if the cache lacks the role: `blocks` refuses it."""
        if self.classes and self.role in self.cache.num_rows:
            return int(np.isin(self.cache.read_labels(self.role), self.classes).sum())
        return self.cache.num_rows.get(self.role, 0)

    @property
    def num_features(self) -> int:
        """Columns of the features, d."""
        return self.cache.num_features

    @property
    def num_views(self) -> int:
        """Views of each row that a block holds."""
        return 1 if self.is_averaged else len(self.views)

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[Block]:
        """Yield blocks of nearly equal size, at most about `BLOCK_BYTES` each; see `Cache.blocks`.

        Equal, because a short last block would hold few chunks. If images are stored class by
        class, those are few classes, and the epoch would end with them: on CIFAR-10 sorted by class
        that cost 2 to 7 points of test accuracy (n = 3).
        """
        row_bytes = np.dtype(np.float32).itemsize * self.num_features * len(self.views)
        max_rows = max(1, BLOCK_BYTES // row_bytes)
        num_blocks = max(1, math.ceil(self.num_rows / max_rows))
        block_rows = max(1, math.ceil(self.num_rows / (num_blocks * self.batch_size))) * self.batch_size
        # a cache that holds other classes too is read in blocks of any size: those are cut to `block_rows` afterwards
        of_views = self._read_views(max_rows if self.classes else block_rows, rng)
        if self.classes:
            of_views = [_keep_classes(blocks, self.classes, block_rows) for blocks in of_views]
        return of_views[0] if len(of_views) == 1 else self._join_views(of_views)

    def _read_views(self, block_rows: int, rng: np.random.Generator | None) -> list[Iterator[Block]]:
        """Return the blocks of each view, all in the same order."""
        if rng is None or len(self.views) == 1:
            return [self.cache.blocks(self.role, block_rows, rng, view=view) for view in self.views]
        seed = int(rng.integers(1 << 31))
        generators = [np.random.default_rng(seed) for _ in self.views]
        return [
            self.cache.blocks(self.role, block_rows, own, view=view)
            for view, own in zip(self.views, generators, strict=True)
        ]

    def _join_views(self, of_views: list[Iterator[Block]]) -> Iterator[Block]:
        """Yield blocks of all views together; none is held while the next one is read."""
        while True:
            parts = _read_next(of_views)
            if not parts:
                return
            block = self._join(parts)
            del parts
            yield block
            del block

    def _join(self, parts: list[Block]) -> Block:
        features = [features for features, _ in parts]
        labels = parts[0][1]
        if self.is_averaged:
            return average_views(features), labels
        return np.concatenate(features), np.tile(labels, len(parts))


def _read_next(of_views: list[Iterator[Block]]) -> list[Block]:
    """Return the next block of each view; none at the end."""
    blocks = [next(blocks, None) for blocks in of_views]
    return [block for block in blocks if block is not None]


def _keep_classes(blocks: Iterator[Block], classes: tuple[int, ...], block_rows: int) -> Iterator[Block]:
    """Yield the rows of the classes, renumbered, in blocks of `block_rows` (the last is shorter)."""
    features: list[np.ndarray] = []
    labels = np.zeros(0, np.int64)
    for block, labels_of_block in blocks:
        new, is_kept = renumber_classes(labels_of_block, classes)
        features, labels = [*features, block[is_kept]], np.concatenate([labels, new])
        del block
        while len(labels) >= block_rows:
            together = np.concatenate(features)
            yield together[:block_rows], labels[:block_rows]
            features, labels = [together[block_rows:].copy()], labels[block_rows:]
            del together
    if len(labels):
        yield np.concatenate(features), labels


def average_views(views: list[np.ndarray]) -> np.ndarray:
    """Return the float32 mean `(n, d)` of the features of several views."""
    total = views[0].astype(np.float32)
    for view in views[1:]:
        total += view
    total /= np.float32(len(views))
    return total
