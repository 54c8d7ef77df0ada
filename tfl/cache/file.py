"""Finished cache files: opening them, and reading their rows."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tfl.cache.blocks import plan_blocks, read_ranges
from tfl.cache.schema import Header, array_name, read_header, require_signature
from tfl.errors import CacheError
from tfl.files import trust
from tfl.files.hdf5 import open_unlocked
from tfl.files.paths import expand_user
from tfl.specs import VIEWS, CacheSpec, Role, View, list_differences

logger = logging.getLogger(__name__)


class CachedRows(NamedTuple):
    """Rows of a cache: `features` (n, d), `labels` (n,) int64, `ids` (n,) bytes.

    `views` holds the features (n, d) of the other views on their way to a file; from a file
    `Cache.read_view` reads them.
    """

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    views: Mapping[View, np.ndarray] = {}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "CachedRows":
        """Return the rows that consist of these arrays, see `arrays`."""
        views = {view: arrays[array_name(view)] for view in VIEWS[1:] if array_name(view) in arrays}
        return cls(arrays["features"], arrays["labels"], arrays["ids"], views)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array by its name inside a role of a file."""
        own = {"features": self.features, "labels": self.labels, "ids": self.ids}
        return own | {array_name(view): features for view, features in self.views.items()}


@dataclass(frozen=True)
class Cache(Header):
    """A finished cache file; any number of processes read its arrays on demand, without a lock."""

    path: Path

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def views(self) -> tuple[View, ...]:
        """Views that the file has features of; the first is `original`."""
        return self.spec.views

    def read(self, role: Role) -> CachedRows:
        """Read all rows of a role, in the view `original`; HDF5 verifies the checksums.

        Raises:
          CacheError: the role is not in the file, or its bytes differ from what was written.
        """
        with self._open_role(role) as group:
            return CachedRows(group["features"][:], self._require_classes(group["labels"][:]), group["ids"][:])

    def read_view(self, role: Role, view: View) -> np.ndarray:
        """Read the features `(n, d)` of one view of all images of a role.

        Raises:
          CacheError: as in `read`, or the view is not in the file.
        """
        with self._open_role(role, view) as group:
            return np.asarray(group[array_name(view)][:])

    def read_rows(self, role: Role, rows: np.ndarray, view: View = "original") -> np.ndarray:
        """Read the features of some rows, given in increasing order, `(len(rows), d)`.

        Raises:
          CacheError: as in `read_view`.
        """
        with self._open_role(role, view) as group:
            features = group[array_name(view)]
            first, last = int(rows[0]), int(rows[-1])
            if last - first < 4 * len(rows):  # HDF5 is slow at picking rows: a dense range is read whole
                return np.asarray(features[first : last + 1][rows - first])
            return np.asarray(features[rows])

    def read_ids(self, role: Role) -> np.ndarray:
        """Read the ids of a role, `(n,)` bytes."""
        with self._open_role(role) as group:
            return np.asarray(group["ids"][:])

    def read_labels(self, role: Role) -> np.ndarray:
        """Read the labels of a role, `(n,)` int64."""
        with self._open_role(role) as group:
            return self._require_classes(group["labels"][:])

    def blocks(
        self, role: Role, num_rows: int, rng: np.random.Generator | None = None, view: View = "original"
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all rows of a role in blocks: features `(m, d)` and labels `(m,)`.

        m is `num_rows`, in the last block less. Only one block is in memory; the file is opened once.

        Args:
          rng: without it, rows come in stored order. With it, the file's chunks (1 MiB of features
            each) come in random order, so that a block has rows from all over the file; inside a
            block, rows keep their stored order. The same state of `rng` gives the same order for
            every view.

        Raises:
          CacheError: as in `read_view`.
        """
        with self._open_role(role, view) as group:
            features, labels = group[array_name(view)], group["labels"]
            chunk_rows = group[array_name("original")].chunks[0]  # a view's own chunks may differ
            for ranges in plan_blocks(len(labels), chunk_rows, num_rows, rng):
                yield read_ranges(features, ranges), self._require_classes(read_ranges(labels, ranges))

    def _require_classes(self, labels: np.ndarray) -> np.ndarray:
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(f"labels range from {labels.min()} to {labels.max()} for {self.num_classes} classes")
        return labels

    @contextlib.contextmanager
    def _open_role(self, role: Role, view: View = "original") -> Iterator[h5py.Group]:
        if role not in self.num_rows:
            raise CacheError(
                f"{self.path} has no {role} rows; it has {', '.join(self.num_rows)}. "
                f"Precompute again with --{role}-split"
            )
        if view not in self.views:
            raise CacheError(
                f"{self.path} has no view {view}; it has {', '.join(self.views)}. A view added later costs that view "
                f"alone: `tfl precompute ... --views {' '.join([*self.views, view])}`"
            )
        try:
            with open_unlocked(self.path) as file:
                yield file[role]
        except Exception as error:  # h5py raises a dozen kinds of exception for damage
            _raise_if_not_damage(error, self.path)
            raise CacheError(
                f"{self.path} is damaged in {role}: {error}; `tfl verify` names the rows; remove the file and "
                "precompute again"
            ) from error


def open_cache(path: Path | str, expected: CacheSpec | None = None) -> Cache:
    """Open a finished cache file, and refuse one that is not what the caller expects.

    A file that this user's tfl has not written, or that has changed since, is first read whole in a
    limited process.

    Args:
      expected: the spec that the caller will use the features under.

    Raises:
      CacheError: no such file, not HDF5, another format number, damaged, or made under another spec
        (the error names each differing field with both values).
    """
    path = expand_user(path)
    if not path.is_file():
        hint = f"; {path}.partial is unfinished: run precompute again" if Path(f"{path}.partial").exists() else ""
        raise CacheError(f"there is no cache file {path}{hint}")
    require_signature(path)
    if not trust.is_trusted(path):
        logger.info("examining %s: this user's tfl did not make it, or it has changed since", path)
        if problems := trust.examine("cache", path):
            lines = [f"  {problem}" for problem in problems]
            raise CacheError(f"{path} cannot be trusted; remove it and precompute again:", *lines)
    cache = Cache(path=path, **vars(read_file_header(path)))
    lines = [] if expected is None else list_differences(cache.spec, expected)
    if lines:
        raise CacheError(f"{path} was made under another spec", *(f"  {line}" for line in lines))
    return cache


def read_file_header(path: Path) -> Header:
    """Read the header of a file, and check the file against the format.

    Raises:
      CacheError: it is damaged, or differs from the format.
    """
    try:
        with open_unlocked(path) as file:
            return read_header(file, path.stat().st_size)
    except Exception as error:  # as above
        _raise_if_not_damage(error, path)
        raise CacheError(f"{path}: {error}; remove it and precompute again") from error


def _raise_if_not_damage(error: Exception, path: Path) -> None:
    """Raise another error if memory is short or the system refuses: the file is not to blame."""
    if isinstance(error, MemoryError) or "memory allocation failed" in str(error):
        raise MemoryError(f"too little memory to read {path}") from error
    if isinstance(error, OSError) and error.errno:
        raise CacheError(f"{path} cannot be read: {os.strerror(error.errno)}") from error


def list_caches(folder: Path, likely: str = "*") -> list[Cache]:
    """Open every readable cache file in a folder, in order of name; warn about the others.

    Args:
      likely: a pattern of names. Files with other names are skipped unless trusted: examining them
        takes time.
    """
    caches = []
    for path in sorted(folder.glob("*.h5")):
        try:
            if path.match(likely) or trust.is_trusted(path):
                caches.append(open_cache(path))
        except (CacheError, OSError) as error:
            logger.warning("ignored: %s", error)
    return caches
