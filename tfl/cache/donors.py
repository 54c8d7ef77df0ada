"""Features that other cache files already hold of the same images, by id and view.

A cache whose rows are wider, of more layers or poolings, gives the columns that are wanted of them.
"""

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tfl.cache.file import Cache
from tfl.errors import BackboneError
from tfl.files import trust
from tfl.specs import CacheSpec, FeatureSpec, Role, View

logger = logging.getLogger(__name__)

Columns = dict[tuple[str, str], slice]
"""Where each pair of a layer and a pooling stands in a row; see `Backbone.columns`."""


class _Held(NamedTuple):
    cache: Cache
    role: Role
    ids: np.ndarray  # (n,) sorted
    rows: np.ndarray  # (n,) where each of them stands
    columns: np.ndarray  # (d,) which of theirs are ours, in our order


class Donors:
    """The caches that a new one may copy features from instead of computing them.

    Args:
      spec: of the new cache.
      caches: of any spec; those that do not serve are passed over, and those that this user's tfl did not make: rows
        out of them would count as one's own. Those of exactly its features come first.
      columns_of: the columns of a row of features under a spec that differs from ours in layers and poolings alone.
    """

    def __init__(self, spec: CacheSpec, caches: list[Cache], columns_of: Callable[[FeatureSpec], Columns]) -> None:
        self._held: list[_Held] = []
        for cache in sorted(caches, key=lambda cache: cache.spec.features != spec.features):
            if cache.spec.dataset.images == spec.dataset.images:
                columns = _columns_that_serve(cache, spec.features, columns_of)
                if columns is not None and _is_own(cache):
                    self._held += [_index(cache, role, columns) for role in cache.num_rows]
                    what = "rows" if cache.spec.features == spec.features else "columns of the rows"
                    logger.info("%s that %s holds are copied, not computed again", what, cache.path)

    def holds(self, id_: bytes, view: View) -> bool:
        """Whether some cache has the features of this view of the image."""
        return self._find(id_, view) is not None

    def _find(self, id_: bytes, view: View) -> tuple[int, int] | None:
        """Which of the held roles has the id under this view, and in which row."""
        for index, held in enumerate(self._held):
            if view not in held.cache.views:
                continue
            if len(id_) <= held.ids.dtype.itemsize:  # numpy would widen all the ids for a longer one
                place = int(np.searchsorted(held.ids, np.asarray(id_, held.ids.dtype)))
                if place < len(held.ids) and held.ids[place] == id_:
                    return index, int(held.rows[place])
        return None

    def read(self, ids: list[bytes], view: View) -> tuple[dict[bytes, np.ndarray], list[dict[str, Any]]]:
        """The features `(d,)` of this view of each of these ids; and how many of them came from which caches.

        Raises:
          KeyError: no cache holds one of them.
        """
        wanted: dict[int, list[tuple[int, bytes]]] = {}
        for id_ in ids:
            if (found := self._find(id_, view)) is None:
                raise KeyError(id_)
            index, row = found
            wanted.setdefault(index, []).append((row, id_))
        features: dict[bytes, np.ndarray] = {}
        copied = []
        for index, places in wanted.items():
            places.sort()
            held = self._held[index]
            copied.append(_origin(held.cache) | {"images": len(places)})
            block = held.cache.read_rows(held.role, np.asarray([row for row, _ in places]), view)
            ours = block[:, held.columns]  # (n, d)
            features |= {id_: feature for (_, id_), feature in zip(places, ours, strict=True)}
        return features, copied


def _is_own(cache: Cache) -> bool:
    """Whether this user's tfl made a cache; else say that its rows are not taken."""
    if trust.is_own(cache.path):
        return True
    logger.warning(
        "no rows are copied from %s, for it was not made by this user's tfl, or was copied or changed since: they are "
        "computed. Nothing needs to be done; remove the file if it is not wanted",
        cache.path,
    )
    return False


def _origin(cache: Cache) -> dict[str, Any]:
    """What a cache says of how its rows were made, for the provenance of those that are copied."""
    made = {key: cache.provenance.get(key) for key in ("engine", "batch_size")}
    return {"fingerprint": cache.spec.fingerprint, **made}


def _columns_that_serve(
    cache: Cache, ours: FeatureSpec, columns_of: Callable[[FeatureSpec], Columns]
) -> np.ndarray | None:
    """Which columns of a cache's rows, one after the other, are a row of ours; None if it does not hold all of them."""
    theirs = cache.spec.features
    if replace(theirs, layers=ours.layers, pooling=ours.pooling) != ours:
        return None
    try:
        held = columns_of(theirs)
    except BackboneError:  # a file from elsewhere may name any layers
        return None
    wanted = list(itertools.product(ours.layers, ours.pooling))
    if not set(wanted) <= held.keys() or cache.num_features != max(columns.stop for columns in held.values()):
        return None
    return np.concatenate([np.arange(cache.num_features)[held[pair]] for pair in wanted])


def _index(cache: Cache, role: Role, columns: np.ndarray) -> _Held:
    ids = cache.read_ids(role)
    order = np.argsort(ids, kind="stable")
    return _Held(cache, role, ids[order], order, columns)
