"""Shards: rows on their way to a cache file, in files that are whole or found to be damaged.

A shard file holds a line with the sha256 of all that follows, in hex; a line with the header as
JSON; and the arrays as .npz to the end.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta

from tfl.cache.file import CachedRows
from tfl.cache.plain_files import open_regular, require_regular, write_whole
from tfl.cache.provenance import CopiedRows, SkippedImage
from tfl.cache.schema import MAX_ID_BYTES
from tfl.datasets import BadImage
from tfl.errors import CacheError
from tfl.files.codec import decode_record, encode_record
from tfl.files.strict_json import parse_json
from tfl.specs import Role
from tfl.text import to_printable

DIGEST_LENGTH = 64
MAX_COUNT = 1 << 53  # of rows, images or seconds in a header

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Seconds = Annotated[float, Meta(ge=0, lt=MAX_COUNT)]
IdBytes = Annotated[int, Meta(ge=0, le=MAX_ID_BYTES)]


class Cost(NamedTuple):
    """Cost of a shard: wall seconds, images computed (once for each view), and copied rows."""

    seconds: Seconds
    images_computed: Count
    copied: Sequence[CopiedRows] = ()


class Place(NamedTuple):
    """The rows that a shard holds: those from `start` to before `stop` of one role of one cache."""

    fingerprint: str
    role: Role
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.role} rows {self.start} to {self.stop} of the cache {self.fingerprint[:12]}"


@dataclass(frozen=True)
class Summary:
    """Header of a shard: enough to lay out the final file before any features are read.

    Attributes:
      place: None in shards of earlier versions.
    """

    num_rows: Count
    id_bytes: IdBytes
    cost: Cost
    skipped: list[BadImage]
    place: Place | None = None


def summarize(summaries: list[Summary]) -> dict[str, Any]:
    """Add up the costs and the copied and skipped images of shards, for JSON."""
    seconds = sum(summary.cost.seconds for summary in summaries)
    computed = sum(summary.cost.images_computed for summary in summaries)
    copied = _add_up([rows for summary in summaries for rows in summary.cost.copied])
    return {
        "seconds": round(seconds, 3),
        "images_computed": computed,
        "images_per_second": round(computed / seconds, 2) if seconds else 0.0,
        **({"copied": [asdict(rows) for rows in copied]} if copied else {}),
        "skipped": [asdict(image) for image in list_skipped(summaries)],
    }


def list_skipped(summaries: list[Summary]) -> list[SkippedImage]:
    """Return the images that were left out of some shards."""
    return [SkippedImage(*image) for summary in summaries for image in summary.skipped]


def _add_up(copied: list[CopiedRows]) -> list[CopiedRows]:
    """Return one entry for each cache that rows were copied from."""
    by_cache: dict[str, list[CopiedRows]] = {}
    for rows in copied:
        by_cache.setdefault(rows.fingerprint, []).append(rows)
    totals = []
    for entries in by_cache.values():
        first, num_images = entries[0], sum(entry.images for entry in entries)
        totals.append(CopiedRows(first.fingerprint, first.engine, first.batch_size, num_images))
    return totals


class DamagedShardError(CacheError):
    """A finished shard does not hold what was written; it can be removed and computed again."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"shard {path} is damaged: {to_printable(str(reason))[:300]}")
        self.path = path


def write_shard(path: Path, place: Place, rows: CachedRows, cost: Cost, skipped: list[BadImage]) -> None:
    """Write a finished shard: build it in memory, write it whole, flush, rename."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = rows.arrays()
    np.savez(buffer, **arrays)
    summary = Summary(len(rows.ids), rows.ids.dtype.itemsize, cost, skipped, place)
    parts = (_to_line(summary), buffer.getbuffer())
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    write_whole(path, digest.hexdigest().encode() + b"\n", *parts)


def read_summary(path: Path, place: Place | None = None) -> Summary:
    """Read the header of a shard; its rows are not read.

    Args:
      place: the rows that the shard must hold.

    Raises:
      DamagedShardError: it is no shard, or holds other rows.
      CacheError: a folder, a link or a FIFO has its name.
    """
    with _damage_named(path), open_regular(path) as file:
        file.seek(DIGEST_LENGTH + 1)
        return _read_header(file.readline(), place)


def read_shard(path: Path, place: Place | None = None) -> CachedRows:
    """Read the rows of a shard.

    Args:
      place: the rows that the shard must hold.

    Raises:
      DamagedShardError: a byte differs from what was written, or it holds other rows.
      CacheError: as in `read_summary`.
    """
    require_regular(path)
    with _damage_named(path):
        content = path.read_bytes()
        payload = memoryview(content)[DIGEST_LENGTH + 1 :]
        if hashlib.sha256(payload).hexdigest().encode() + b"\n" != content[: DIGEST_LENGTH + 1]:
            raise ValueError("its sha256 is not that of what was written")
        buffer = io.BytesIO(payload)
        summary = _read_header(buffer.readline(), place)
        with np.load(io.BytesIO(buffer.read()), allow_pickle=False) as arrays:
            rows = CachedRows.from_arrays(arrays)
        if len(rows.ids) != summary.num_rows:
            raise ValueError(f"it holds {len(rows.ids)} rows, {summary.num_rows} was expected")
        return rows


def _to_line(summary: Summary) -> bytes:
    return json.dumps(encode_record(summary)).encode() + b"\n"


def _read_header(line: bytes, place: Place | None) -> Summary:
    """Return what a header says.

    Raises:
      ValueError: it is no header, or that of other rows.
    """
    summary = decode_record(parse_json(line), Summary)
    if place is not None:
        _require_place(summary, place)
    return summary


def _require_place(summary: Summary, expected: Place) -> None:
    """Refuse a shard that has another shard's name, or lies in another cache's folder."""
    if summary.place is None:
        raise ValueError("it does not say which rows it holds, as those of an earlier version of tfl do not")
    if summary.place != expected:
        raise ValueError(f"it holds {summary.place}; expected {expected}")
    num_images = summary.num_rows + len(summary.skipped)
    if num_images != expected.stop - expected.start:
        raise ValueError(f"it accounts for {num_images} images; expected {expected.stop - expected.start}")


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn whatever json, zipfile and numpy raise into one error, but not a system's refusal."""
    try:
        yield
    except (CacheError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno:
            raise
        raise DamagedShardError(path, error) from error
