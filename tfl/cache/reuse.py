"""Features that other caches already hold of the same images, found by id and view.

A cache with more layers or poolings gives those of its columns that the new cache needs.
"""

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tfl.cache.file import Cache
from tfl.cache.provenance import CopiedRows
from tfl.errors import BackboneError
from tfl.files import trust
from tfl.specs import CacheSpec, FeatureSpec, Role, View

logger = logging.getLogger(__name__)

Columns = dict[tuple[str, str], slice]
"""The columns of a row by layer and pooling; see `Backbone.columns`."""


@dataclass(frozen=True)
class _Source:
    """The rows of one role of a cache, for looking up ids.

    Attributes:
      ids: sorted, `(n,)`.
      rows: the row of each of these ids in the role, `(n,)`.
      columns: the columns of its rows that the new cache needs, in the new cache's order, `(d,)`.
    """

    cache: Cache
    role: Role
    ids: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def find_row(self, id_: bytes) -> int | None:
        """Return the row of an id, or None."""
        if len(id_) > self.ids.dtype.itemsize:  # numpy would widen all ids for a longer one
            return None
        place = int(np.searchsorted(self.ids, np.asarray(id_, self.ids.dtype)))
        is_found = place < len(self.ids) and self.ids[place] == id_
        return int(self.rows[place]) if is_found else None


class _Location(NamedTuple):
    """Source and row that hold an image's features."""

    source: int
    row: int


class ReusableCaches:
    """The caches that a new cache copies features from instead of computing them.

    Args:
      spec: of the new cache.
      caches: of any spec; those without matching features are ignored. So are caches that this
        user's tfl did not make: rows copied from them would pass as the user's own. Caches of
        exactly these features are asked first.
      columns_of: returns the columns of a row under a spec that differs from `spec` only in layers
        and poolings.
    """

    def __init__(self, spec: CacheSpec, caches: list[Cache], columns_of: Callable[[FeatureSpec], Columns]) -> None:
        self._sources: list[_Source] = []
        same_images = [cache for cache in caches if cache.spec.dataset.images == spec.dataset.images]
        for cache in sorted(same_images, key=lambda cache: cache.spec.features != spec.features):
            columns = _find_columns(cache, spec.features, columns_of)
            if columns is not None and _require_own(cache):
                self._sources += [_index_role(cache, role, columns) for role in cache.num_rows]
                what = "rows" if cache.spec.features == spec.features else "columns of the rows"
                logger.info("%s that %s holds are copied, not computed again", what, cache.path)

    def has(self, id_: bytes, view: View) -> bool:
        """Return whether some cache has the features of this view of the image."""
        return self._find(id_, view) is not None

    def count_rows(self, view: View) -> int:
        """Return how many rows of this view the caches hold; one that two of them hold counts twice."""
        return sum(len(source.ids) for source in self._sources if view in source.cache.views)

    def read(self, ids: list[bytes], view: View) -> tuple[dict[bytes, np.ndarray], list[CopiedRows]]:
        """Return the features `(d,)` of this view by id, and how many each cache gave.

        Raises:
          KeyError: no cache holds one of them.
        """
        wanted: dict[int, list[tuple[int, bytes]]] = {}
        for id_ in ids:
            location = self._find(id_, view)
            if location is None:
                raise KeyError(id_)
            wanted.setdefault(location.source, []).append((location.row, id_))
        features: dict[bytes, np.ndarray] = {}
        copied = []
        for index, rows_and_ids in wanted.items():
            source = self._sources[index]
            features |= _read_sorted(source, sorted(rows_and_ids), view)
            copied.append(_describe(source.cache, len(rows_and_ids)))
        return features, copied

    def _find(self, id_: bytes, view: View) -> _Location | None:
        for index, source in enumerate(self._sources):
            row = source.find_row(id_) if view in source.cache.views else None
            if row is not None:
                return _Location(index, row)
        return None


def _read_sorted(source: _Source, rows_and_ids: list[tuple[int, bytes]], view: View) -> dict[bytes, np.ndarray]:
    """Return features by id; rows are in increasing order, as HDF5 wants them."""
    rows = np.asarray([row for row, _ in rows_and_ids])
    block = source.cache.read_rows(source.role, rows, view)
    features = block[:, source.columns]  # (n, d)
    ids = [id_ for _, id_ in rows_and_ids]
    return dict(zip(ids, features, strict=True))


def _require_own(cache: Cache) -> bool:
    """Return whether this user's tfl made a cache; warn if not."""
    if trust.is_own(cache.path):
        return True
    logger.warning(
        "no rows are copied from %s: it was not made by this user's tfl, or was copied or changed since. They are "
        "computed instead. Nothing needs to be done; remove the file if it is not wanted",
        cache.path,
    )
    return False


def _describe(cache: Cache, num_images: int) -> CopiedRows:
    made = cache.provenance
    return CopiedRows(cache.spec.fingerprint, made.engine, made.batch_size, num_images)


def _find_columns(cache: Cache, wanted: FeatureSpec, columns_of: Callable[[FeatureSpec], Columns]) -> np.ndarray | None:
    """Return the columns of a cache's rows that make up a row of `wanted`; None if one is missing."""
    held = cache.spec.features
    if replace(held, layers=wanted.layers, pooling=wanted.pooling) != wanted:
        return None
    try:
        columns = columns_of(held)
    except BackboneError:  # a file from elsewhere may name any layers
        return None
    pairs = list(itertools.product(wanted.layers, wanted.pooling))
    width = max(pair_columns.stop for pair_columns in columns.values())
    if not set(pairs) <= columns.keys() or cache.num_features != width:
        return None
    return np.concatenate([np.arange(cache.num_features)[columns[pair]] for pair in pairs])


def _index_role(cache: Cache, role: Role, columns: np.ndarray) -> _Source:
    ids = cache.read_ids(role)
    order = np.argsort(ids, kind="stable")
    return _Source(cache, role, ids[order], order, columns)
