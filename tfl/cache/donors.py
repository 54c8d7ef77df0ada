"""Rows that other cache files already hold under the same features of the same dataset, by id."""

import logging
from typing import NamedTuple

import numpy as np

from tfl.cache.file import Cache
from tfl.spec import DIGEST_PREFIX, CacheSpec, Role

logger = logging.getLogger(__name__)


class _Held(NamedTuple):
    cache: Cache
    role: Role
    ids: np.ndarray  # (n,) sorted
    rows: np.ndarray  # (n,) where each of them stands


class Donors:
    """The caches that a new one may copy rows from instead of computing them.

    Args:
      spec: of the new cache.
      caches: of any spec; those that do not serve are passed over.
    """

    def __init__(self, spec: CacheSpec, caches: list[Cache]) -> None:
        self._held: list[_Held] = []
        for cache in caches:
            if _serves(cache.spec, spec):
                self._held += [_index(cache, role) for role in cache.num_rows]
                logger.info("rows that %s holds are copied, not computed again", cache.path)

    def __contains__(self, id_: bytes) -> bool:
        return self._find(id_) is not None

    def _find(self, id_: bytes) -> tuple[int, int] | None:
        """Which of the held roles has the id, and in which row."""
        for index, held in enumerate(self._held):
            if len(id_) <= held.ids.dtype.itemsize:  # numpy would widen all the ids for a longer one
                place = int(np.searchsorted(held.ids, np.asarray(id_, held.ids.dtype)))
                if place < len(held.ids) and held.ids[place] == id_:
                    return index, int(held.rows[place])
        return None

    def read(self, ids: list[bytes]) -> dict[bytes, np.ndarray]:
        """The features `(d,)` of each of these ids.

        Raises:
          KeyError: no cache holds one of them.
        """
        wanted: dict[int, list[tuple[int, bytes]]] = {}
        for id_ in ids:
            if (found := self._find(id_)) is None:
                raise KeyError(id_)
            index, row = found
            wanted.setdefault(index, []).append((row, id_))
        features: dict[bytes, np.ndarray] = {}
        for index, places in wanted.items():
            places.sort()
            held = self._held[index]
            block = held.cache.read_rows(held.role, np.asarray([row for row, _ in places]))  # (n, d)
            features |= {id_: feature for (_, id_), feature in zip(places, block, strict=True)}
        return features


def _serves(theirs: CacheSpec, ours: CacheSpec) -> bool:
    """Whether equal ids mean equal images in both, and the features are the same."""
    same_content = ours.dataset.version == theirs.dataset.version and ours.dataset.version.startswith(DIGEST_PREFIX)
    name_and_version = (ours.dataset.dataset, ours.dataset.version)
    same_dataset = same_content or name_and_version == (theirs.dataset.dataset, theirs.dataset.version)
    return same_dataset and theirs.features.fingerprint == ours.features.fingerprint


def _index(cache: Cache, role: Role) -> _Held:
    ids = cache.read_ids(role)
    order = np.argsort(ids, kind="stable")
    return _Held(cache, role, ids[order], order)
