"""A shard: some rows on their way to a cache file, in one file that is whole or is found not to be.

Its lines: the sha256 of the rest, in hex; a header as JSON; then the arrays as .npz to the end.
"""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfl.cache.file import CachedRows
from tfl.cache.plain_files import open_regular, require_regular
from tfl.cache.schema import MAX_ID_BYTES
from tfl.datasets import BadImage
from tfl.errors import CacheError
from tfl.specs import Role
from tfl.text import to_printable

DIGEST_LENGTH = 64
UNFINISHED = ".writing"
MAX_COUNT = 1 << 53  # of rows, images or seconds in a header
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Cost(NamedTuple):
    """What a shard took: wall seconds, and images that went through the backbone, each once for every view of it.

    `copied` says of other caches `fingerprint`, `engine`, `batch_size`, and how many `images` came from there instead.
    """

    seconds: float
    images_computed: int
    copied: Sequence[dict[str, Any]] = ()


class Place(NamedTuple):
    """Which rows a shard holds: of which cache, of which role, from which row on to before which."""

    fingerprint: str
    role: Role
    start: int
    stop: int


@dataclass(frozen=True)
class Summary:
    """What stands in a shard's header: enough to lay out the final file before any features are read."""

    num_rows: int
    id_bytes: int
    cost: Cost
    skipped: list[BadImage]


def totals_of(summaries: list[Summary]) -> dict[str, Any]:
    """Cost of some shards, and images copied and left out, over all the processes that took part, for JSON."""
    seconds = sum(summary.cost.seconds for summary in summaries)
    computed = sum(summary.cost.images_computed for summary in summaries)
    rate = round(computed / seconds, 2) if seconds else 0.0
    skipped = [image._asdict() for summary in summaries for image in summary.skipped]
    copied: dict[str, dict[str, Any]] = {}
    for origin in (origin for summary in summaries for origin in summary.cost.copied):
        copied.setdefault(origin["fingerprint"], {**origin, "images": 0})["images"] += origin["images"]
    return {
        "seconds": round(seconds, 3),
        "images_computed": computed,
        "images_per_second": rate,
        **({"copied": list(copied.values())} if copied else {}),
        "skipped": skipped,
    }


class DamagedShardError(CacheError):
    """A finished shard does not hold what was written; it can be removed and made again."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"shard {path} is damaged: {to_printable(str(reason))[:300]}")
        self.path = path


def write_shard(path: Path, place: Place, rows: CachedRows, cost: Cost, skipped: list[BadImage]) -> None:
    """Leave a finished shard: built in memory, written in one piece, flushed to disk, renamed."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = rows.arrays()
    np.savez(buffer, **arrays)
    header = {
        "place": place,
        "num_rows": len(rows.ids),
        "id_bytes": rows.ids.dtype.itemsize,
        "cost": cost,
        "skipped": skipped,
    }
    content = json.dumps(header).encode() + b"\n" + buffer.getvalue()
    write_whole(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_summary(path: Path, place: Place | None = None) -> Summary:
    """The header of a shard, whose rows are not read.

    Args:
      place: the rows that are expected in it.

    Raises:
      DamagedShardError: it is none, or holds other rows.
      CacheError: a folder, a link or a FIFO has its name.
    """
    with _damaged(path), open_regular(path) as file:
        file.seek(DIGEST_LENGTH + 1)
        return _summary(file.readline(), place)


def read_shard(path: Path, place: Place | None = None) -> CachedRows:
    """The rows of a shard.

    Args:
      place: the rows that are expected in it.

    Raises:
      DamagedShardError: a byte is not what was written, or it holds other rows.
      CacheError: as in `read_summary`.
    """
    require_regular(path)
    with _damaged(path):
        content = path.read_bytes()
        payload = memoryview(content)[DIGEST_LENGTH + 1 :]
        if hashlib.sha256(payload).hexdigest().encode() + b"\n" != content[: DIGEST_LENGTH + 1]:
            raise ValueError("its sha256 is not that of what was written")
        buffer = io.BytesIO(payload)
        summary = _summary(buffer.readline(), place)
        with np.load(io.BytesIO(buffer.read()), allow_pickle=False) as arrays:
            rows = CachedRows.of(arrays)
        if len(rows.ids) != summary.num_rows:
            raise ValueError(f"it holds {len(rows.ids)} rows, {summary.num_rows} was expected")
        return rows


def _summary(line: bytes, place: Place | None) -> Summary:
    """Read a header.

    Raises:
      ValueError, TypeError, KeyError: it is none, or of other rows; also what `json` raises.
    """
    values: dict[str, Any] = json.loads(line)
    skipped = [BadImage(*map(_text, pair)) for pair in values["skipped"]]
    seconds, images_computed, copied = values["cost"]
    cost = Cost(_seconds(seconds), _count(images_computed), [_origin(origin) for origin in copied])
    if place is not None:
        _require_place(values, place)
    return Summary(_count(values["num_rows"]), _count(values["id_bytes"], MAX_ID_BYTES), cost, skipped)


def _require_place(values: dict[str, Any], expected: Place) -> None:
    """Refuse a shard that has another one's name, or lies in another cache's folder."""
    if "place" not in values:
        raise ValueError("it does not say which rows it holds, as those of an earlier version of tfl do not")
    received = Place(*values["place"])
    if received != expected:
        raise ValueError(f"it holds {_described(received)}; expected {_described(expected)}")
    num_held = values["num_rows"] + len(values["skipped"])
    if num_held != expected.stop - expected.start:
        raise ValueError(f"it accounts for {num_held} images; expected {expected.stop - expected.start}")


def _described(place: Place) -> str:
    return f"{place.role} rows {place.start} to {place.stop} of the cache {str(place.fingerprint)[:12]}"


def _origin(value: Any) -> dict[str, Any]:
    _text(value["fingerprint"])
    _count(value["images"])
    return dict(value)


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < MAX_COUNT or not math.isfinite(value):
        raise ValueError(f"{str(value)[:80]} is not a number of seconds")
    return float(value)


def _count(value: Any, most: int = MAX_COUNT) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{str(value)[:80]} is not a number from 0 to {most:,}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]} is not a text")
    return value


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Turn whatever json, zipfile and numpy raise into one error; what the system refuses is no damage."""
    try:
        yield
    except (CacheError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno:
            raise
        raise DamagedShardError(path, error) from error


def write_whole(path: Path, content: bytes) -> None:
    """A file under this name is complete and on the disk, or absent.

    Raises:
      CacheError: the disk is full.
    """
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise_if_full(error, path.parent, len(content))
        raise
    sync_folder(path.parent)


def raise_if_full(error: OSError, folder: Path, needed_bytes: int) -> None:
    """Turn what the system says of a full disk into what the user can do about it."""
    if error.errno in FULL:
        raise CacheError(
            f"{folder} has no room: {needed_bytes:,} bytes are needed there ({error.strerror}). What was finished is "
            "kept: make room, and give the same command again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # a filesystem that cannot do this for a folder
            raise
    finally:
        os.close(descriptor)
