"""Contents of a cache file, or progress of an unfinished one."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfl.cache.file import Cache, list_caches, open_cache
from tfl.cache.lock import find_holder
from tfl.cache.partial import PartialCache
from tfl.cache.provenance import SkippedImage
from tfl.cache.schema import FORMAT
from tfl.cache.shards import list_skipped
from tfl.errors import CacheError
from tfl.files.paths import expand_user
from tfl.specs import CacheSpec, Role

logger = logging.getLogger(__name__)

CHECKED = "header, sizes, labels and ids are in order; `tfl verify` reads every byte of the features as well"


@dataclass(frozen=True)
class RowProgress:
    """Rows of one role of an unfinished cache."""

    finished: int
    total: int


@dataclass(frozen=True)
class Inspection:
    """Contents of a cache file.

    Attributes:
      class_counts: rows of each class by role and class name.
      provenance: everything that the file says of how it was made.
      checked: what this reading has checked.
    """

    path: str
    bytes: int
    format: int
    fingerprint: str
    spec: CacheSpec
    class_names: list[str]
    num_features: int
    rows: dict[Role, int]
    class_counts: dict[Role, dict[str, int]]
    provenance: dict[str, Any]
    checked: str = CHECKED


@dataclass(frozen=True)
class PartialInspection:
    """Progress of an unfinished cache.

    Attributes:
      seconds: time that the finished shards took.
      seconds_left: at the same rate; None before the first shard.
      held_by: the process that works on it, or nothing.
      made_with: everything that the rows' last bits depend on.
    """

    path: str
    bytes: int
    format: int
    fingerprint: str
    spec: CacheSpec
    rows: dict[Role, RowProgress]
    seconds: float
    images_computed: int
    seconds_left: float | None
    skipped: list[SkippedImage]
    num_skipped: int
    held_by: str
    made_with: dict[str, Any]


@dataclass(frozen=True)
class Overview:
    """One line of a list of caches.

    Attributes:
      rows: by role, when the cache is finished.
      finished: how many of all rows are there now.
    """

    name: str
    bytes: int
    spec: CacheSpec
    rows: dict[Role, int]
    finished: int


def inspect(path: Path) -> Inspection | PartialInspection:
    """Describe a cache file, or an unfinished one.

    Args:
      path: the file; for an unfinished cache also its folder `*.partial`.

    Raises:
      CacheError: neither exists, or it is damaged.
    """
    path = expand_user(path)
    folder = path if path.is_dir() else Path(f"{path}.partial")
    if not path.is_file() and folder.is_dir():
        return _inspect_partial(PartialCache.from_folder(folder))
    return _inspect_file(open_cache(path))


def list_overviews(folder: Path) -> list[Overview]:
    """Describe the caches in a folder, in order of name; warn about unreadable ones."""
    folder = expand_user(folder)
    finished = [_overview_of_file(cache) for cache in list_caches(folder)]
    unfinished = []
    for path in folder.glob("*.h5.partial"):
        try:
            unfinished.append(_overview_of_partial(path.name, _inspect_partial(PartialCache.from_folder(path))))
        except (CacheError, OSError) as error:
            logger.warning("ignored: %s", error)
    return sorted([*finished, *unfinished], key=lambda overview: overview.name)


def _overview_of_file(cache: Cache) -> Overview:
    num_bytes, num_rows = cache.path.stat().st_size, sum(cache.num_rows.values())
    return Overview(cache.path.name, num_bytes, cache.spec, cache.num_rows, num_rows)


def _overview_of_partial(name: str, found: PartialInspection) -> Overview:
    totals = {role: rows.total for role, rows in found.rows.items()}
    num_finished = sum(rows.finished for rows in found.rows.values())
    return Overview(name, found.bytes, found.spec, totals, num_finished)


def _inspect_file(cache: Cache) -> Inspection:
    for role in cache.num_rows:
        cache.read_ids(role)
    return Inspection(
        path=str(cache.path),
        bytes=cache.path.stat().st_size,
        format=FORMAT,
        fingerprint=cache.spec.fingerprint,
        spec=cache.spec,
        class_names=list(cache.class_names),
        num_features=cache.num_features,
        rows=cache.num_rows,
        class_counts={role: _count_classes(cache, role) for role in cache.num_rows},
        provenance=cache.provenance.values,
    )


def _count_classes(cache: Cache, role: Role) -> dict[str, int]:
    counts = np.bincount(cache.read_labels(role), minlength=cache.num_classes)  # (c,)
    return dict(zip(cache.class_names, counts.tolist(), strict=True))


def _inspect_partial(partial: PartialCache) -> PartialInspection:
    summaries = partial.summaries()
    seconds = sum(summary.cost.seconds for summary in summaries)
    computed = sum(summary.cost.images_computed for summary in summaries)
    skipped = list_skipped(summaries)
    missing = dict.fromkeys(partial.num_rows, 0)
    for shard in partial.missing():
        missing[shard.role] += shard.num_rows
    images_left = sum(missing.values()) * len(partial.spec.views)
    return PartialInspection(
        path=str(partial.folder),
        bytes=sum(_size_of(file) for file in partial.folder.iterdir()),
        format=FORMAT,
        fingerprint=partial.spec.fingerprint,
        spec=partial.spec,
        rows={role: RowProgress(n - missing[role], n) for role, n in partial.num_rows.items()},
        seconds=round(seconds, 1),
        images_computed=computed,
        seconds_left=round(images_left * seconds / computed, 1) if computed else None,
        skipped=skipped,
        num_skipped=len(skipped),
        held_by=find_holder(partial.folder),
        made_with=partial.making.to_json(),
    )


def _size_of(path: Path) -> int:
    """Return the size of a file that its writer may rename at any moment; 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
