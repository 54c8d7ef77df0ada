"""A finished cache file: opening it, and reading its rows."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tfl.cache.blocks import gather, pieces_of_blocks
from tfl.cache.schema import Header, array_of, read_header, require_signature
from tfl.errors import CacheError
from tfl.files import trust
from tfl.files.hdf5 import open_plain
from tfl.files.paths import expand_user
from tfl.specs import VIEWS, CacheSpec, Role, View, list_differences

logger = logging.getLogger(__name__)


class CachedRows(NamedTuple):
    """What is stored of some images: `features` (n, d), `labels` (n,) int64, `ids` (n,) bytes.

    `views` are the features (n, d) of the further views, on their way to a file; `Cache.read_view` reads them from one.
    """

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    views: Mapping[View, np.ndarray] = {}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "CachedRows":
        """The rows whose `arrays` these are."""
        views = {view: arrays[array_of(view)] for view in VIEWS[1:] if array_of(view) in arrays}
        return cls(arrays["features"], arrays["labels"], arrays["ids"], views)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array, by its name in a role of a file."""
        own = {"features": self.features, "labels": self.labels, "ids": self.ids}
        return own | {array_of(view): features for view, features in self.views.items()}


@dataclass(frozen=True)
class Cache(Header):
    """A finished cache file; arrays are read on demand, by any number of processes and without a lock."""

    path: Path

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def views(self) -> tuple[View, ...]:
        """The views that features are there of; the first is `original`."""
        return self.spec.views

    def read(self, role: Role) -> CachedRows:
        """All rows of a role, of the view `original`, checksums verified by HDF5.

        Raises:
          CacheError: the role is not in the file, or its bytes are not what was written.
        """
        with self._opened(role) as group:
            return CachedRows(group["features"][:], self._checked(group["labels"][:]), group["ids"][:])

    def read_view(self, role: Role, view: View) -> np.ndarray:
        """The features `(n, d)` of a view of all images of a role.

        Raises:
          CacheError: as in `read`, or the view is not in the file.
        """
        with self._opened(role, view) as group:
            return np.asarray(group[array_of(view)][:])

    def read_rows(self, role: Role, rows: np.ndarray, view: View = "original") -> np.ndarray:
        """Features of some rows, given in increasing order, `(len(rows), d)`.

        Raises:
          CacheError: as in `read_view`.
        """
        with self._opened(role, view) as group:
            features = group[array_of(view)]
            first, last = int(rows[0]), int(rows[-1])
            if last - first < 4 * len(rows):  # HDF5 is slow at picking rows: a dense range is read whole
                return np.asarray(features[first : last + 1][rows - first])
            return np.asarray(features[rows])

    def read_ids(self, role: Role) -> np.ndarray:
        """The ids of a role, `(n,)` bytes."""
        with self._opened(role) as group:
            return np.asarray(group["ids"][:])

    def read_labels(self, role: Role) -> np.ndarray:
        """The labels of a role, `(n,)` int64."""
        with self._opened(role) as group:
            return self._checked(group["labels"][:])

    def blocks(
        self, role: Role, num_rows: int, rng: np.random.Generator | None = None, view: View = "original"
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All rows of a role, block by block: features `(m, d)` and labels `(m,)`, m = `num_rows` but in the last.

        Memory is that of one block, however many rows there are; the file is opened once.

        Args:
          rng: without it rows come in stored order. With it the file's chunks (1 MiB of features each) come in random
            order, so that a block has rows from all over the file; inside a block rows stand in stored order. From
            the same state of `rng` every view comes in the same order.

        Raises:
          CacheError: as in `read_view`.
        """
        with self._opened(role, view) as group:
            features, labels = group[array_of(view)], group["labels"]
            chunk_rows = group[array_of("original")].chunks[0]  # a view's own may be others
            for pieces in pieces_of_blocks(len(labels), chunk_rows, num_rows, rng):
                yield gather(features, pieces), self._checked(gather(labels, pieces))

    def _checked(self, labels: np.ndarray) -> np.ndarray:
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(f"labels range from {labels.min()} to {labels.max()} for {self.num_classes} classes")
        return labels

    @contextlib.contextmanager
    def _opened(self, role: Role, view: View = "original") -> Iterator[h5py.Group]:
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
            with open_plain(self.path) as file:
                yield file[role]
        except Exception as error:  # h5py tells of damage by a dozen kinds of exception
            _raise_if_not_damage(error, self.path)
            raise CacheError(
                f"{self.path} is damaged in {role}: {error}; `tfl verify` names the rows; remove the file and "
                "precompute again"
            ) from error


def open_cache(path: Path, expected: CacheSpec | None = None) -> Cache:
    """Open a finished cache file, and refuse one that is not what the caller takes it for.

    A file that this user's tfl has not written, or that has changed since, is first read whole in a limited process.

    Args:
      expected: the spec that the caller is about to use the features under.

    Raises:
      CacheError: no such file, not HDF5, another format number, damaged, or of another spec (each differing field
        with both values).
    """
    path = expand_user(path)
    if not path.is_file():
        hint = f"; {path}.partial is unfinished: run precompute again" if Path(f"{path}.partial").exists() else ""
        raise CacheError(f"there is no cache file {path}{hint}")
    require_signature(path)
    if not trust.is_known(path):
        logger.info("looking through %s, which is not of this tfl's making or has changed", path)
        if problems := trust.examine("cache", path):
            lines = [f"  {problem}" for problem in problems]
            raise CacheError(f"{path} cannot be trusted; remove it and precompute again:", *lines)
    cache = Cache(path=path, **vars(header_of(path)))
    if expected is not None and (lines := list_differences(cache.spec, expected)):
        raise CacheError(f"{path} was made under another spec", *(f"  {line}" for line in lines))
    return cache


def header_of(path: Path) -> Header:
    """The header of a file, checked against the format.

    Raises:
      CacheError: it is damaged, or not as the format says.
    """
    try:
        with open_plain(path) as file:
            return read_header(file, path.stat().st_size)
    except Exception as error:  # as above
        _raise_if_not_damage(error, path)
        raise CacheError(f"{path}: {error}; remove it and precompute again") from error


def _raise_if_not_damage(error: Exception, path: Path) -> None:
    """Too little memory, or a system that refuses, says nothing of the file."""
    if isinstance(error, MemoryError) or "memory allocation failed" in str(error):
        raise MemoryError(f"too little memory to read {path}") from error
    if isinstance(error, OSError) and error.errno:
        raise CacheError(f"{path} cannot be read: {os.strerror(error.errno)}") from error


def list_caches(folder: Path, likely: str = "*") -> list[Cache]:
    """Every readable cache file in a folder, by name; others are passed over with a warning.

    Args:
      likely: a pattern of names; files of other names that are not known are not looked through, which takes time.
    """
    caches = []
    for path in sorted(folder.glob("*.h5")):
        try:
            if path.match(likely) or trust.is_known(path):
                caches.append(open_cache(path))
        except (CacheError, OSError) as error:
            logger.warning("passed over: %s", error)
    return caches
