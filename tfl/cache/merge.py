"""Merge of the shards into the final HDF5 file."""

import hashlib
import itertools
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tfl.cache.file import read_file_header
from tfl.cache.hdf5_writing import ErrorKeepingFile, hold_signals
from tfl.cache.ids import UniqueIds
from tfl.cache.plain_files import UNFINISHED, raise_if_full, sync_folder
from tfl.cache.schema import (
    CHUNK_BYTES,
    FORMAT,
    HDF5_VERSION,
    MAX_CHUNK_BYTES,
    fit_skipped,
    require_signature,
    require_storable,
)
from tfl.cache.shards import Place, Summary, read_shard, read_summary, summarize
from tfl.errors import CacheError
from tfl.files import trust
from tfl.machine import batching
from tfl.specs import DIGEST_PREFIX, CacheSpec, Role

Shards = dict[Role, list[tuple[Path, Place]]]
"""Shards by role, in the order of their rows: the file of each, and the rows that it must hold."""


def merge(path: Path, folder: Path, shards: Shards, spec: CacheSpec, described: dict[str, Any]) -> None:
    """Write the final file in `folder`, flush it to the disk, read its header back, and rename it.

    Args:
      described: `class_names` and `provenance`; the cost and the skipped images of the shards are
        added.

    Raises:
      DamagedShardError: a shard differs from what was written.
      CacheError: an id appears in two rows, a role has no image left, the disk is full, or the file
        that was written differs from the format.
    """
    summaries = {role: [read_summary(*shard) for shard in of_role] for role, of_role in shards.items()}
    totals = summarize([summary for of_role in summaries.values() for summary in of_role])
    provenance = fit_skipped({**described["provenance"], **totals})
    described = {**described, "provenance": provenance}
    require_storable(spec, described["class_names"], provenance)
    unfinished = folder / f"merged.{uuid.uuid4().hex[:8]}{UNFINISHED}"
    needed = sum(shard.stat().st_size for of_role in shards.values() for shard, _ in of_role)
    try:
        with ErrorKeepingFile(unfinished) as target:
            try:
                with hold_signals() as handle_received:
                    _write_file(target, shards, summaries, spec, described, handle_received)
            except OSError as error:
                raise target.error or error from error  # HDF5 raises a consequence, not the cause
            if target.error:
                raise target.error
            target.sync()
        _require_readable(unfinished, path, folder)
        trust.rename_and_mark_own(unfinished, path)
    except OSError as error:
        raise_if_full(error, folder, needed)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def _require_readable(unfinished: Path, path: Path, folder: Path) -> None:
    """Read back what was written, as every command will.

    Raises:
      CacheError: it differs from the format.
    """
    try:
        require_signature(unfinished)
        read_file_header(unfinished)
    except CacheError as error:
        raise CacheError(
            f"{path} was not made, because no command could open what was written: {error.__cause__ or error}; the "
            f"finished shards are kept in {folder}: please report this bug of tfl"
        ) from error


def _write_file(
    target: ErrorKeepingFile,
    shards: Shards,
    summaries: dict[Role, list[Summary]],
    spec: CacheSpec,
    described: dict[str, Any],
    handle_received: Callable[[], None],
) -> None:
    with h5py.File(target, "w", libver=(HDF5_VERSION, HDF5_VERSION)) as file:
        digests: dict[str, str] = {}
        ids = UniqueIds()
        for role, of_role in shards.items():
            digests |= _write_role(file.create_group(role), of_role, summaries[role], ids, handle_received)
        _write_attributes(file, spec, {**described, "digests": digests})


def _write_attributes(file: h5py.File, spec: CacheSpec, described: dict[str, Any]) -> None:
    """Write texts of fixed length: HDF5 keeps others in a heap without checksum."""
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
    handle_received: Callable[[], None],
) -> dict[str, str]:
    """Write one role, shard by shard; return the sha256 of each of its arrays."""
    count = sum(summary.num_rows for summary in summaries)
    role = group.name.strip("/")
    if not count:
        raise CacheError(f"all images of the {role} rows were left out: {summaries[0].skipped[0].reason}")
    id_dtype = h5py.string_dtype("utf-8", max(summary.id_bytes for summary in summaries if summary.num_rows))
    digests: dict[str, Any] = {}
    start = 0
    with ThreadPoolExecutor(1) as reader:
        for read in batching.prefetch(reader, itertools.starmap(read_shard, shards)):
            handle_received()
            rows = read._replace(ids=read.ids.astype(id_dtype))
            if not digests:
                for name, array in rows.arrays().items():
                    _create(group, name, count, array)
                    digests[name] = hashlib.sha256()
            repeated = ids.add(rows.ids)
            if repeated is not None:
                raise CacheError(f"the id {repeated!r} appears in two rows; ids are unique over all roles")
            for name, values in rows.arrays().items():
                array = np.ascontiguousarray(values)
                group[name][start : start + len(array)] = array
                digests[name].update(array.view(np.uint8).data)
            start += len(rows.ids)
    return {f"{role}/{name}": DIGEST_PREFIX + digest.hexdigest() for name, digest in digests.items()}


def _create(group: h5py.Group, name: str, count: int, like: np.ndarray) -> None:
    """Create an array of `count` rows, in chunks of `CHUNK_BYTES`, or of one row if that is more."""
    row_bytes = like.dtype.itemsize * int(np.prod(like.shape[1:]))
    row = like.shape[1:] if row_bytes <= MAX_CHUNK_BYTES else (CHUNK_BYTES // like.dtype.itemsize,)
    chunk = (max(1, min(count, CHUNK_BYTES // row_bytes)), *row)
    group.create_dataset(name, (count, *like.shape[1:]), like.dtype, chunks=chunk, fletcher32=True)
