"""Shards into the final HDF5 file."""

import contextlib
import hashlib
import io
import itertools
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tfl.cache.file import header_of
from tfl.cache.ids import UniqueIds
from tfl.cache.schema import (
    CHUNK_BYTES,
    FORMAT,
    HDF5_VERSION,
    MAX_CHUNK_BYTES,
    fit_skipped,
    require_signature,
    require_storable,
)
from tfl.cache.shards import UNFINISHED, Place, Summary, raise_if_full, read_shard, read_summary, sync_folder, totals_of
from tfl.errors import CacheError
from tfl.files import trust
from tfl.machine import batching
from tfl.specs import DIGEST_PREFIX, CacheSpec, Role

Shards = dict[Role, list[tuple[Path, Place]]]
"""The shards of each role, in the order of their rows: where each is, and what it has to hold."""


def merge(path: Path, folder: Path, shards: Shards, spec: CacheSpec, described: dict[str, Any]) -> None:
    """Write the final file in `folder`, bring it to the disk, read its header back, and give it its name.

    Args:
      described: `class_names` and `provenance`, to which what the shards took and left out is added.

    Raises:
      DamagedShardError: a shard is not what was written.
      CacheError: an id stands in two rows, a role has no image left, the disk is full, or what was written is not as
        the format says.
    """
    summaries = {role: [read_summary(*shard) for shard in of_role] for role, of_role in shards.items()}
    totals = totals_of([summary for of_role in summaries.values() for summary in of_role])
    provenance = fit_skipped({**described["provenance"], **totals})
    described = {**described, "provenance": provenance}
    require_storable(spec, described["class_names"], provenance)
    unfinished = folder / f"merged.{uuid.uuid4().hex[:8]}{UNFINISHED}"
    needed = sum(shard.stat().st_size for of_role in shards.values() for shard, _ in of_role)
    try:
        with _Surviving(unfinished) as target:
            try:
                with _signals_held() as let_through:
                    _write_file(target, shards, summaries, spec, described, let_through)
            except OSError as error:
                raise target.error or error from error  # HDF5 tells of what follows from the error, not of the error
            if target.error:
                raise target.error
            target.sync()
        _require_readable(unfinished, path, folder)
        trust.rename_own(unfinished, path)
    except OSError as error:
        raise_if_full(error, folder, needed)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def _require_readable(unfinished: Path, path: Path, folder: Path) -> None:
    """Read back what was written, as every command will.

    Raises:
      CacheError: what is not as the format says.
    """
    try:
        require_signature(unfinished)
        header_of(unfinished)
    except CacheError as error:
        raise CacheError(
            f"{path} was not made, for no command could open what was written: {error.__cause__ or error}; the "
            f"finished shards are kept in {folder}: report this as a fault of tfl"
        ) from error


def _write_file(
    target: "_Surviving",
    shards: Shards,
    summaries: dict[Role, list[Summary]],
    spec: CacheSpec,
    described: dict[str, Any],
    let_through: Callable[[], None],
) -> None:
    with h5py.File(target, "w", libver=(HDF5_VERSION, HDF5_VERSION)) as file:
        digests: dict[str, str] = {}
        ids = UniqueIds()
        for role, of_role in shards.items():
            digests |= _write_role(file.create_group(role), of_role, summaries[role], ids, let_through)
        _write_attributes(file, spec, {**described, "digests": digests})


@contextlib.contextmanager
def _signals_held() -> Iterator[Callable[[], None]]:
    """Keep Ctrl-C and SIGTERM back while HDF5 calls `_Surviving`: an exception out of there crashes it.

    Yields a function that lets the handlers of those that came have them, to be called where HDF5 is not at work.
    """
    came: list[signal.Signals] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    is_main = threading.current_thread() is threading.main_thread()  # no other thread has handlers run in it
    held = {number: handler for number, handler in handlers.items() if is_main and handler is not signal.SIG_IGN}

    def let_through() -> None:
        if came:
            handler = held[came[0]]
            if callable(handler):
                handler(came.pop(0), None)
            else:
                signal.signal(came[0], signal.SIG_DFL)
                signal.raise_signal(came[0])

    for number in held:
        signal.signal(number, lambda number, frame: came.append(signal.Signals(number)))
    try:
        yield let_through
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    let_through()


class _Surviving(io.RawIOBase):
    """A file that keeps a write error to itself: HDF5 1.14 crashes at the end of a process in which a write failed.

    Attributes:
      error: the first that a write has met.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.error: OSError | None = None

    def sync(self) -> None:
        """Bring the content to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        super().close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer) or 0

    def write(self, content: Any) -> int:
        view = memoryview(content)
        try:
            written = 0
            while self.error is None and written < len(view):  # a write may be a short one
                written += self._file.write(view[written:]) or 0
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


def _write_attributes(file: h5py.File, spec: CacheSpec, described: dict[str, Any]) -> None:
    """Texts of fixed length: those of variable length would lie in a heap that HDF5 does not checksum."""
    file.attrs["format"] = np.int64(FORMAT)
    file.attrs["spec"] = np.bytes_(spec.to_json())
    file.attrs["fingerprint"] = np.bytes_(spec.fingerprint)
    for name, value in described.items():
        file.attrs[name] = np.bytes_(json.dumps(value))


def _write_role(
    group: h5py.Group,
    shards: list[tuple[Path, Place]],
    summaries: list[Summary],
    ids: UniqueIds,
    let_through: Callable[[], None],
) -> dict[str, str]:
    """Write one role, shard by shard; returns the sha256 of each of its arrays."""
    count = sum(summary.num_rows for summary in summaries)
    role = group.name.strip("/")
    if not count:
        raise CacheError(f"all images of the {role} rows were left out: {summaries[0].skipped[0].reason}")
    id_dtype = h5py.string_dtype("utf-8", max(summary.id_bytes for summary in summaries if summary.num_rows))
    digests: dict[str, Any] = {}
    start = 0
    with ThreadPoolExecutor(1) as reader:
        for read in batching.prefetch(reader, itertools.starmap(read_shard, shards)):
            let_through()
            rows = read._replace(ids=read.ids.astype(id_dtype))
            if not digests:
                for name, array in rows.arrays().items():
                    _create(group, name, count, array)
                    digests[name] = hashlib.sha256()
            if (repeated := ids.add(rows.ids)) is not None:
                raise CacheError(f"the id {repeated!r} stands in two rows; ids are unique over all roles")
            for name, values in rows.arrays().items():
                array = np.ascontiguousarray(values)
                group[name][start : start + len(array)] = array
                digests[name].update(array.view(np.uint8).data)
            start += len(rows.ids)
    return {f"{role}/{name}": DIGEST_PREFIX + digest.hexdigest() for name, digest in digests.items()}


def _create(group: h5py.Group, name: str, count: int, like: np.ndarray) -> None:
    """An array of `count` rows; the bytes of a chunk are about `CHUNK_BYTES`, or one row's where that is more."""
    row_bytes = like.dtype.itemsize * int(np.prod(like.shape[1:]))
    row = like.shape[1:] if row_bytes <= MAX_CHUNK_BYTES else (CHUNK_BYTES // like.dtype.itemsize,)
    chunk = (max(1, min(count, CHUNK_BYTES // row_bytes)), *row)
    group.create_dataset(name, (count, *like.shape[1:]), like.dtype, chunks=chunk, fletcher32=True)
