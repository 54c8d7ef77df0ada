"""What is in a cache file, or how far an unfinished one is."""

import json
import logging
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from tfl.cache.file import Cache, list_caches, open_cache
from tfl.cache.lock import holder_of
from tfl.cache.partial import PartialCache
from tfl.cache.schema import FORMAT
from tfl.cache.shards import totals_of
from tfl.errors import CacheError
from tfl.files.paths import expand_user

logger = logging.getLogger(__name__)


def inspect(path: Path) -> dict[str, Any]:
    """Describe a cache file; or, given its folder `*.partial`, or its name while it is being made, what is there of it.

    Returns:
      Plain values for JSON. Of both: `path`, `bytes`, `format`, `fingerprint`, `spec`. Of a file: `class_names`,
      `num_features`, `rows` by role, `class_counts` by role and name, `provenance`, `checked` (what this reading has
      checked). Of a folder: `rows` by role with `finished` and `total`, `seconds` and `images_computed` so far,
      `seconds_left` (null before the first shard), `skipped`, `num_skipped`, `held_by`, `made_with`.

    Raises:
      CacheError: neither is there, or it is damaged.
    """
    path = expand_user(path)
    folder = path if path.is_dir() else Path(f"{path}.partial")
    if not path.is_file() and folder.is_dir():
        return _inspect_partial(PartialCache.found(folder))
    return _inspect_file(open_cache(path))


def list_overviews(folder: Path) -> list[dict[str, Any]]:
    """What the caches in a folder are, whole and unfinished, by name; unreadable ones are passed over with a warning.

    Returns:
      For each `name`, `bytes`, `spec`, `rows` by role, and `finished`, how many of them are there.
    """
    folder = expand_user(folder)
    whole = [
        {
            "name": cache.path.name,
            "bytes": cache.path.stat().st_size,
            "spec": json.loads(cache.spec.to_json()),
            "rows": cache.num_rows,
            "finished": sum(cache.num_rows.values()),
        }
        for cache in list_caches(folder)
    ]
    return sorted([*whole, *_unfinished(folder)], key=itemgetter("name"))


def _unfinished(folder: Path) -> Iterator[dict[str, Any]]:
    for path in folder.glob("*.h5.partial"):
        try:
            found = inspect(path)
        except (CacheError, OSError) as error:
            logger.warning("passed over: %s", error)
            continue
        yield {
            "name": path.name,
            "bytes": found["bytes"],
            "spec": found["spec"],
            "rows": {role: counts["total"] for role, counts in found["rows"].items()},
            "finished": sum(counts["finished"] for counts in found["rows"].values()),
        }


def _inspect_file(cache: Cache) -> dict[str, Any]:
    for role in cache.num_rows:
        cache.read_ids(role)
    return {
        "path": str(cache.path),
        "bytes": cache.path.stat().st_size,
        "format": FORMAT,
        "fingerprint": cache.spec.fingerprint,
        "spec": json.loads(cache.spec.to_json()),
        "class_names": list(cache.class_names),
        "num_features": cache.num_features,
        "rows": cache.num_rows,
        "class_counts": {
            role: dict(
                zip(
                    cache.class_names,
                    np.bincount(cache.read_labels(role), minlength=cache.num_classes).tolist(),
                    strict=True,
                )
            )
            for role in cache.num_rows
        },
        "provenance": cache.provenance,
        "checked": "header, sizes, labels and ids are in order; `tfl verify` reads every byte of the features as well",
    }


def _size_of(path: Path) -> int:
    """Of a file that its writer may rename at any moment."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _inspect_partial(partial: PartialCache) -> dict[str, Any]:
    totals = totals_of(partial.summaries())
    missing = partial.missing()
    left = {role: sum(shard.num_rows for shard in missing if shard.role == role) for role in partial.num_rows}
    seconds, computed = totals["seconds"], totals["images_computed"]
    images_left = sum(left.values()) * len(partial.spec.views)
    return {
        "path": str(partial.folder),
        "bytes": sum(_size_of(file) for file in partial.folder.iterdir()),
        "format": FORMAT,
        "fingerprint": partial.spec.fingerprint,
        "spec": json.loads(partial.spec.to_json()),
        "rows": {role: {"finished": n - left[role], "total": n} for role, n in partial.num_rows.items()},
        "seconds": round(seconds, 1),
        "images_computed": computed,
        "seconds_left": round(images_left * seconds / computed, 1) if computed else None,
        "skipped": totals["skipped"],
        "num_skipped": len(totals["skipped"]),
        "held_by": holder_of(partial.folder),
        "made_with": partial.making,
    }
