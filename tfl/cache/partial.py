"""The folder of finished shards that a cache file is made from, `<name>.h5.partial`.

It holds `lock`, which says which process works in it; `manifest.json`, what the bits of the rows depend on (engine,
versions, device, threads, batch size, environment, shard rows); and the shards, `<role>-<first row>.shard`.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfl.cache.file import CachedRows
from tfl.cache.lock import locked
from tfl.cache.manifest import EARLIER, MANIFEST, REQUESTED, describe, differences, read_manifest
from tfl.cache.merge import merge
from tfl.cache.plain_files import require_regular
from tfl.cache.schema import require_storable
from tfl.cache.shards import (
    UNFINISHED,
    Cost,
    DamagedShardError,
    Place,
    Summary,
    read_shard,
    read_summary,
    sync_folder,
    write_shard,
    write_whole,
)
from tfl.datasets import BadImage
from tfl.errors import CacheError
from tfl.specs import CacheSpec, Role

ID_BYTES = 64  # an estimate, for the room on the disk
SPARE_BYTES = 1 << 20


class Shard(NamedTuple):
    """A range of rows of one role's split, before any image is left out."""

    role: Role
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Rows of the range."""
        return self.stop - self.start


class PartialCache:
    """A cache file in the making; one process at a time holds it.

    Args:
      path: the final file.
      num_rows: images of each role.
      making: what must be the same when a killed run goes on, for the bits to be the same: engine, versions,
        device, threads, batch size, environment, shard rows.
    """

    def __init__(self, path: Path, spec: CacheSpec, num_rows: dict[Role, int], making: dict[str, Any]) -> None:
        self.path = path
        self.folder = Path(f"{path}.partial")
        self.making = dict(making)
        self.num_rows = num_rows
        self.spec = spec

    @classmethod
    def found(cls, folder: Path) -> "PartialCache":
        """What an unfinished folder says of itself.

        Raises:
          CacheError: it is no such folder.
        """
        try:
            manifest = read_manifest(folder)
        except CacheError as error:
            raise CacheError(f"{folder} is not the folder of an unfinished cache: {error}") from error
        return cls(folder.with_suffix(""), *manifest)

    @classmethod
    def batch_size_of(cls, path: Path, requested: int) -> int:
        """What the finished shards of this file have come to, where it was begun with the requested size or none is.

        Args:
          requested: 0 if none is; also what is returned if there are no shards, or they were begun with another size.
        """
        try:
            found = cls.found(Path(f"{path}.partial"))
        except CacheError:
            return requested
        goes_on = found._has_shards() and requested in (0, found.making.get(REQUESTED))
        return int(found.making.get("batch_size", requested)) if goes_on else requested

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder; it goes when the final file is there at the end, whoever made it, or no shard is.

        Raises:
          CacheError: another process holds the folder, or it was begun with other settings.
        """
        with locked(self.folder, str(self.path)):
            try:
                if not self.path.exists():
                    self._begin_or_go_on()
                yield
            finally:
                if self.path.exists() or not self._has_shards():
                    shutil.rmtree(self.folder, ignore_errors=True)

    def _has_shards(self) -> bool:
        return any(self.folder.glob("*.shard"))

    def discard_if_finished(self) -> None:
        """Remove what a process left that was killed between the last rename and the removal of its folder."""
        if self.path.exists() and self.folder.exists():
            with contextlib.suppress(CacheError), self.held():
                pass

    def _begin_or_go_on(self) -> None:
        manifest = self.folder / MANIFEST
        require_regular(manifest)
        is_new = not manifest.exists() or not self._has_shards()
        sync_folder(self.folder.parent)
        for pattern in ("*.shard", f"*{UNFINISHED}") if is_new else (f"*{UNFINISHED}",):
            for leftover in self.folder.glob(pattern):
                leftover.unlink(missing_ok=True)
        if is_new:
            self._write_manifest()
            return
        try:
            theirs = read_manifest(self.folder)
        except CacheError as error:
            raise CacheError(f"{error}; remove the folder to begin again") from error
        if lines := differences(describe(*theirs), describe(self.spec, self.num_rows, self.making)):
            raise CacheError(
                f"{self.folder} was begun with other settings, and its rows would differ in the last bits",
                *(f"  {line}" for line in lines),
                "go on with those settings, or remove the folder to begin again",
            )
        self.making |= {key: theirs.making[key] for key in (EARLIER, REQUESTED) if key in theirs.making}

    def _write_manifest(self) -> None:
        manifest = describe(self.spec, self.num_rows, self.making)
        write_whole(self.folder / MANIFEST, json.dumps(manifest, indent=2).encode())

    def reduce_batches(self, size: int) -> None:
        """Go on with batches of a smaller size, and keep which was requested, and which were the finished shards'."""
        before = self.making["batch_size"]
        sizes = [*self.making.get(EARLIER, []), *([before] if self._has_shards() else [])]
        self.making |= {REQUESTED: self.making.get(REQUESTED, before), EARLIER: sizes, "batch_size": size}
        self._write_manifest()

    def shards(self) -> list[Shard]:
        """All shards, in the order of their rows."""
        step = self.making["shard_rows"]
        return [
            Shard(role, start, min(start + step, count))
            for role, count in self.num_rows.items()
            for start in range(0, count, step)
        ]

    def missing(self) -> list[Shard]:
        """The shards that are not finished; finished ones are known by their names and not read."""
        return [shard for shard in self.shards() if not self._path_of(shard).exists()]

    def summaries(self) -> list[Summary]:
        """The headers of the finished shards; damaged ones, which the merge will name, are passed over."""
        found = []
        for shard in self.shards():
            with contextlib.suppress(DamagedShardError):
                found.append(read_summary(self._path_of(shard), self._place_of(shard)))
        return found

    def labels(self, role: Role) -> np.ndarray:
        """The labels of a role's finished shards, int64 `(n,)`.

        Raises:
          DamagedShardError: a shard is not what was written.
        """
        shards = [read_shard(self._path_of(shard)) for shard in self.shards() if shard.role == role]
        return np.concatenate([rows.labels for rows in shards])

    def _path_of(self, shard: Shard) -> Path:
        return self.folder / f"{shard.role}-{shard.start:09d}.shard"

    def _place_of(self, shard: Shard) -> Place:
        return Place(self.spec.fingerprint, *shard)

    def require_room(self, num_features: int) -> None:
        """Refuse to begin what the disk has no room for: the missing shards, and beside all of them the final file.

        Raises:
          CacheError: how many bytes are needed, where, and how many there are.
        """
        value_bytes = {"float32": 4, "float16": 2}[self.spec.features.feature_dtype]
        row_bytes = len(self.spec.views) * num_features * value_bytes + 8 + ID_BYTES
        shards = row_bytes * sum(shard.num_rows for shard in self.missing())
        final = row_bytes * sum(self.num_rows.values()) + SPARE_BYTES
        place = next(folder for folder in self.folder.resolve().parents if folder.exists())
        if (free := shutil.disk_usage(place).free) < shards + final:
            raise CacheError(
                f"{place} has {free:,} bytes free, and {shards + final:,} are needed: "
                f"{shards:,} for the rows on their way, {final:,} for the file. Make room, or choose another "
                "--cache-dir"
            )

    def write(self, shard: Shard, rows: CachedRows, cost: Cost, skipped: list[BadImage] | None = None) -> None:
        """Leave a finished shard.

        Raises:
          CacheError: the disk is full; nothing half-written is left.
        """
        write_shard(self._path_of(shard), self._place_of(shard), rows, cost, skipped or [])

    def require_storable(self, class_names: tuple[str, ...], provenance: dict[str, Any]) -> None:
        """Refuse to begin what no cache file can hold.

        Raises:
          CacheError: a text of the file's header would be too large, or there are too few classes.
        """
        require_storable(self.spec, class_names, {**self.making, **provenance})

    def finish(self, class_names: tuple[str, ...], provenance: dict[str, Any]) -> Path:
        """Merge the shards into the final file: written in the folder, flushed to disk, read back, renamed.

        Raises:
          DamagedShardError: a shard is not what was written.
          CacheError: an id stands in two rows, a role has no image left, the disk is full, or what was written is not
            as the format says; the shards are kept.
        """
        shards: dict[Role, list[tuple[Path, Place]]] = {role: [] for role in self.num_rows}
        for shard in self.shards():
            shards[shard.role].append((self._path_of(shard), self._place_of(shard)))
        merge(self.path, self.folder, shards, self.spec, {"class_names": class_names, "provenance": provenance})
        return self.path
