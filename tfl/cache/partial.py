"""An unfinished cache: the folder `<name>.h5.partial`, whose shards become the file at the end.

It holds `lock`, which names the process that works in it; `manifest.json`, with everything that the
rows' last bits depend on; and the finished shards, `<role>-<first row>.shard`.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfl.cache.file import CachedRows
from tfl.cache.lock import hold_folder
from tfl.cache.manifest import MANIFEST, Making, Manifest, list_changes, read_manifest
from tfl.cache.merge import merge
from tfl.cache.plain_files import UNFINISHED, require_regular, sync_folder, write_whole
from tfl.cache.schema import require_storable
from tfl.cache.shards import Cost, DamagedShardError, Place, Summary, read_shard, read_summary, write_shard
from tfl.datasets import BadImage
from tfl.errors import CacheError
from tfl.files.codec import decode_record
from tfl.specs import CacheSpec, Role

ID_BYTES = 64  # an estimate, for the space on the disk
SPARE_BYTES = 1 << 20


class Shard(NamedTuple):
    """A range of rows of one role's split, counted before any image is left out."""

    role: Role
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Number of rows in the range."""
        return self.stop - self.start


class PartialCache:
    """An unfinished cache file; one process at a time holds it.

    Args:
      path: the final file.
      num_rows: images of each role.
      making: the fields of `Making`. A killed run resumes only under the same values, so that every
        bit is the same.
    """

    def __init__(self, path: Path, spec: CacheSpec, num_rows: dict[Role, int], making: dict[str, Any]) -> None:
        self.path = path
        self.folder = Path(f"{path}.partial")
        self.making = decode_record(making, Making)
        self.num_rows = num_rows
        self.spec = spec

    @classmethod
    def from_folder(cls, folder: Path) -> "PartialCache":
        """Open the folder of an unfinished cache, as its manifest describes it.

        Raises:
          CacheError: it is no such folder.
        """
        try:
            manifest = read_manifest(folder)
        except CacheError as error:
            raise CacheError(f"{folder} is not the folder of an unfinished cache: {error}") from error
        return cls(folder.with_suffix(""), manifest.spec, manifest.num_rows, manifest.making.to_json())

    @classmethod
    def find_batch_size(cls, path: Path, requested: int) -> int:
        """Return the batch size to resume with, or `requested` if there is nothing to resume.

        Memory may have forced smaller batches than those that the folder was begun with: the same
          request resumes with
        the smaller ones.

        Args:
          path: the final file.
          requested: 0 for whatever the finished shards were computed with.
        """
        try:
            partial = cls.from_folder(Path(f"{path}.partial"))
        except CacheError:
            return requested
        is_same_request = requested in (0, partial.making.requested_batch_size)
        return partial.making.batch_size if is_same_request and partial._has_shards() else requested

    @property
    def _manifest(self) -> Manifest:
        return Manifest(self.spec, self.num_rows, self.making)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder; at the end remove it if the final file exists, or if it has no shard.

        Raises:
          CacheError: another process holds the folder, or it was begun with other settings.
        """
        with hold_folder(self.folder, str(self.path)):
            try:
                if not self.path.exists():
                    self._begin_or_resume()
                yield
            finally:
                if self.path.exists() or not self._has_shards():
                    shutil.rmtree(self.folder, ignore_errors=True)

    def _has_shards(self) -> bool:
        return any(self.folder.glob("*.shard"))

    def discard_if_finished(self) -> None:
        """Remove the folder of a process that was killed after it had renamed the finished file."""
        if self.path.exists() and self.folder.exists():
            with contextlib.suppress(CacheError), self.hold():
                pass

    def _begin_or_resume(self) -> None:
        manifest = self.folder / MANIFEST
        require_regular(manifest)
        is_new = not manifest.exists() or not self._has_shards()
        sync_folder(self.folder.parent)
        patterns = ["*.shard", f"*{UNFINISHED}"] if is_new else [f"*{UNFINISHED}"]
        for pattern in patterns:
            for leftover in self.folder.glob(pattern):
                leftover.unlink(missing_ok=True)
        if is_new:
            self._write_manifest()
            return
        try:
            before = read_manifest(self.folder)
        except CacheError as error:
            raise CacheError(f"{error}; remove the folder to begin again") from error
        lines = list_changes(before, self._manifest)
        if lines:
            raise CacheError(
                f"{self.folder} was begun with other settings, and its rows would differ in the last bits",
                *(f"  {line}" for line in lines),
                "give the command again with those settings, or remove the folder to begin again",
            )
        self.making = replace(
            self.making,
            requested_batch_size=before.making.requested_batch_size,
            earlier_batch_sizes=before.making.earlier_batch_sizes,
        )

    def _write_manifest(self) -> None:
        write_whole(self.folder / MANIFEST, json.dumps(self._manifest.to_json(), indent=2).encode())

    def reduce_batches(self, size: int) -> None:
        """Continue with smaller batches; record the requested size and those of finished shards."""
        before = self.making.batch_size
        earlier = list(self.making.earlier_batch_sizes or [])
        if self._has_shards():
            earlier.append(before)
        requested = self.making.requested_batch_size or before
        self.making = replace(self.making, batch_size=size, requested_batch_size=requested, earlier_batch_sizes=earlier)
        self._write_manifest()

    def shards(self) -> list[Shard]:
        """Return all shards, in the order of their rows."""
        step = self.making.shard_rows
        return [
            Shard(role, start, min(start + step, count))
            for role, count in self.num_rows.items()
            for start in range(0, count, step)
        ]

    def missing(self) -> list[Shard]:
        """Return the unfinished shards; finished ones are recognised by name, not read."""
        return [shard for shard in self.shards() if not self._path_of(shard).exists()]

    def summaries(self) -> list[Summary]:
        """Read the headers of the finished shards, except damaged ones: the merge names those."""
        found = []
        for shard in self.shards():
            with contextlib.suppress(DamagedShardError):
                found.append(read_summary(self._path_of(shard), self._place_of(shard)))
        return found

    def labels(self, role: Role) -> np.ndarray:
        """Read the labels of a role's finished shards, int64 `(n,)`.

        Raises:
          DamagedShardError: a shard differs from what was written.
        """
        shards = [read_shard(self._path_of(shard)) for shard in self.shards() if shard.role == role]
        return np.concatenate([rows.labels for rows in shards])

    def _path_of(self, shard: Shard) -> Path:
        return self.folder / f"{shard.role}-{shard.start:09d}.shard"

    def _place_of(self, shard: Shard) -> Place:
        return Place(self.spec.fingerprint, *shard)

    def require_room(self, num_features: int) -> None:
        """Refuse to begin if the disk has no room for the missing shards and the final file.

        Raises:
          CacheError: it has not; the error says how many bytes are needed, where, and how many are
            free.
        """
        value_bytes = {"float32": 4, "float16": 2}[self.spec.features.feature_dtype]
        row_bytes = len(self.spec.views) * num_features * value_bytes + 8 + ID_BYTES
        shards = row_bytes * sum(shard.num_rows for shard in self.missing())
        final = row_bytes * sum(self.num_rows.values()) + SPARE_BYTES
        place = next(folder for folder in self.folder.resolve().parents if folder.exists())
        free = shutil.disk_usage(place).free
        if free < shards + final:
            raise CacheError(
                f"{place} has {free:,} bytes free, and {shards + final:,} are needed: "
                f"{shards:,} for the shards, {final:,} for the file. Make room, or choose another --cache-dir"
            )

    def write(self, shard: Shard, rows: CachedRows, cost: Cost, skipped: list[BadImage] | None = None) -> None:
        """Write a finished shard.

        Raises:
          CacheError: the disk is full; nothing half-written is left.
        """
        write_shard(self._path_of(shard), self._place_of(shard), rows, cost, skipped or [])

    def require_storable(self, class_names: tuple[str, ...], provenance: dict[str, Any]) -> None:
        """Refuse to begin if no cache file could hold it.

        Raises:
          CacheError: a text of the file's header would be too large, or there are too few classes.
        """
        require_storable(self.spec, class_names, {**self.making.to_json(), **provenance})

    def finish(self, class_names: tuple[str, ...], provenance: dict[str, Any]) -> Path:
        """Merge the shards into the final file: write, flush, read back, rename.

        Raises:
          DamagedShardError: a shard differs from what was written.
          CacheError: an id appears in two rows, a role has no image left, the disk is full, or the
            file that was written differs from the format; the shards are kept.
        """
        shards: dict[Role, list[tuple[Path, Place]]] = {role: [] for role in self.num_rows}
        for shard in self.shards():
            shards[shard.role].append((self._path_of(shard), self._place_of(shard)))
        merge(self.path, self.folder, shards, self.spec, {"class_names": class_names, "provenance": provenance})
        return self.path
