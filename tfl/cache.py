"""The cache file: features, labels and ids of one CacheSpec in HDF5, and the folder it grows in.

    /                  format, spec, fingerprint, class_names, provenance
    /<role>/features   (n, d) feature_dtype      /<role>/labels (n,) int64      /<role>/ids (n,) UTF-8 bytes

A file under its final name is whole. Until then it is a folder `<name>.partial` of shards, one file for each
range of rows, each written in one piece and renamed when it is on the disk.
"""

import contextlib
import fcntl
import io
import json
import logging
import os
import platform
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import h5py
import numpy as np

from tfl.errors import CacheError, SpecError
from tfl.spec import CacheSpec, Role, differences

logger = logging.getLogger(__name__)

FORMAT = 1
# With HDF5's oldest file format, flipped metadata bytes were read back silently wrong; with v110 never.
HDF5_VERSION = "v110"
CHUNK_BYTES = 1 << 20


class Rows(NamedTuple):
    """What is stored of some images: `features` (n, d), `labels` (n,) int64, `ids` (n,) bytes."""

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


class Cost(NamedTuple):
    """What a shard took: wall seconds, and images that went through the backbone (the others were copied)."""

    seconds: float
    images_computed: int


@dataclass(frozen=True)
class Cache:
    """A finished cache file; arrays are read on demand.

    Attributes:
      provenance: what made the file but does not decide its values.
    """

    path: Path
    spec: CacheSpec
    class_names: tuple[str, ...]
    provenance: dict[str, Any]
    num_rows: dict[Role, int]
    num_features: int

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def read(self, role: Role) -> Rows:
        """All rows of a role, checksums verified by HDF5.

        Raises:
          CacheError: the role is not in the file, or its bytes are not what was written.
        """
        return Rows(*self._read(role, slice(None), Rows._fields))

    def read_rows(self, role: Role, rows: np.ndarray) -> np.ndarray:
        """Features of some rows, given in increasing order, `(len(rows), d)`."""
        return self._read(role, rows, ("features",))[0]

    def read_ids(self, role: Role) -> np.ndarray:
        """The ids of a role, `(n,)` bytes."""
        return self._read(role, slice(None), ("ids",))[0]

    def blocks(
        self, role: Role, num_rows: int, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All rows of a role, block by block: features `(m, d)` and labels `(m,)`, m = `num_rows` but in the last.

        Memory is that of one block, however many rows there are; the file is opened once.

        Args:
          rng: without it rows come in stored order. With it the file's chunks (1 MiB of features each) come in a random
            order in which every block has chunks from all over the file; inside a block rows stand in stored order.

        Raises:
          CacheError: as in `read`.
        """
        with self._opened(role) as group:
            features, labels = group["features"], group["labels"]
            size = features.chunks[0]
            order = np.arange(-(-len(labels) // size))
            if rng is not None:
                order = _spread(len(order), -(-len(labels) // num_rows), rng)
            chunks = ((start, min(start + size, len(labels))) for start in (order * size).tolist())
            for pieces in _pieces(chunks, num_rows):
                yield _gather(features, pieces), _gather(labels, pieces)

    def _read(self, role: Role, rows: Any, names: tuple[str, ...]) -> list[np.ndarray]:
        with self._opened(role) as group:
            return [group[name][rows] for name in names]

    @contextlib.contextmanager
    def _opened(self, role: Role) -> Iterator[h5py.Group]:
        """The group of a role; what HDF5 finds wrong while it is read is a CacheError."""
        if role not in self.num_rows:
            raise CacheError(
                f"{self.path} has no {role} rows; it has {', '.join(self.num_rows)}. "
                f"Precompute again with --{role}-split"
            )
        try:
            with h5py.File(self.path) as file:
                yield file[role]
        except (OSError, KeyError) as error:
            raise CacheError(f"{self.path} is damaged in {role}: {error}; remove it and precompute again") from error


def _spread(num_chunks: int, num_blocks: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of chunks in which each of `num_blocks` equal parts has one chunk of every stretch of the file.

    Image folders are stored class by class: without this the classes of a block are as uneven as chance makes them.
    """
    stretch = np.arange(num_chunks) // num_blocks  # stretches of `num_blocks` neighbouring chunks
    shuffled = np.lexsort((rng.random(num_chunks), stretch))  # stretches in order, each shuffled in itself
    parts = [rng.permutation(shuffled[i::num_blocks]) for i in range(num_blocks)]
    return np.concatenate([parts[i] for i in rng.permutation(num_blocks)])


def _pieces(chunks: Iterable[tuple[int, int]], num_rows: int) -> Iterator[list[tuple[int, int]]]:
    """Cut ranges of rows, in the order given, into blocks of `num_rows` rows; a range may go on in the next block.

    In each block the ranges are sorted: the file is read forwards, and a chunk of labels, which covers many ranges,
    only once.
    """
    block: list[tuple[int, int]] = []
    room = num_rows
    for first, stop in chunks:
        start = first
        while start < stop:
            piece = (start, min(stop, start + room))
            block.append(piece)
            room -= piece[1] - start
            start = piece[1]
            if room == 0:
                yield sorted(block)
                block, room = [], num_rows
    if block:
        yield sorted(block)


def _gather(dataset: h5py.Dataset, pieces: list[tuple[int, int]]) -> np.ndarray:
    """Some ranges of a dataset's rows, one after the other, read in place without a second copy."""
    rows = np.empty((sum(stop - start for start, stop in pieces), *dataset.shape[1:]), dataset.dtype)
    at = 0
    for start, stop in pieces:
        dataset.read_direct(rows, np.s_[start:stop], np.s_[at : at + stop - start])
        at += stop - start
    return rows


def open_cache(path: Path, expected: CacheSpec | None = None) -> Cache:
    """Open a finished cache file, and refuse one that is not what the caller takes it for.

    Args:
      expected: the spec that the caller is about to use the features under.

    Raises:
      CacheError: no such file, not HDF5, another format number, damaged, or of another spec (each differing field
        with both values).
    """
    if not path.is_file():
        hint = f"; {path}.partial is unfinished: run precompute again" if Path(f"{path}.partial").exists() else ""
        raise CacheError(f"there is no cache file {path}{hint}")
    if not h5py.is_hdf5(path):
        raise CacheError(f"{path} is not an HDF5 file ({path.stat().st_size} bytes); expected one made by precompute")
    try:
        with h5py.File(path) as file:
            cache = _read_header(path, file)
    except (OSError, KeyError, ValueError, AttributeError, SpecError) as error:
        raise CacheError(f"{path} is not a readable cache: {error}; remove it and precompute again") from error
    if expected is not None and (lines := differences(cache.spec, expected)):
        raise CacheError("\n  ".join([f"{path} was made under another spec", *lines]))
    return cache


def _read_header(path: Path, file: h5py.File) -> Cache:
    if "format" not in file.attrs:
        raise CacheError(f"{path} is an HDF5 file, but not a feature cache (it has no attribute `format`)")
    if (found := int(file.attrs["format"])) != FORMAT:
        raise CacheError(f"{path} has format {found}, this version of tfl reads {FORMAT}; precompute again")
    spec = CacheSpec.from_json(file.attrs["spec"])
    if spec.fingerprint != file.attrs["fingerprint"]:
        raise CacheError(f"{path}: its fingerprint {file.attrs['fingerprint']} is not its spec's {spec.fingerprint}")
    return Cache(
        path=path,
        spec=spec,
        class_names=tuple(json.loads(file.attrs["class_names"])),
        provenance=json.loads(file.attrs["provenance"]),
        num_rows={role: len(file[role]["labels"]) for role in spec.dataset.roles},
        num_features=file[next(iter(spec.dataset.roles))]["features"].shape[1],
    )


def list_caches(folder: Path) -> list[Cache]:
    """Every readable cache file in a folder, by name; others are passed over with a warning."""
    caches = []
    for path in sorted(folder.glob("*.h5")):
        try:
            caches.append(open_cache(path))
        except CacheError as error:
            logger.warning("passed over: %s", error)
    return caches


class DamagedShardError(CacheError):
    """A finished shard does not hold what was written; it has been removed and can be made again."""


class PartialCache:
    """The folder of finished shards that a cache file is made from; one process at a time holds it.

    Args:
      path: the final file.
      making: what must be the same when a killed run goes on, for the bits to be the same: engine, versions,
        device, threads, batch size, shard rows.

    Raises:
      CacheError: another process holds the folder, or it was begun with other settings.
    """

    def __init__(self, path: Path, spec: CacheSpec, class_names: tuple[str, ...], making: dict[str, Any]) -> None:
        self.path = path
        self.folder = Path(f"{path}.partial")
        self._spec = spec
        self._class_names = class_names
        self._making = making

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder; the operating system lets go of it when the process ends, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise CacheError(f"{self.path} is being made by {lock.read().strip()}; wait for it") from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}\n")
            lock.flush()
            self._begin_or_go_on()
            yield

    def _begin_or_go_on(self) -> None:
        manifest = self.folder / "manifest.json"
        ours = {"format": FORMAT, "fingerprint": self._spec.fingerprint, **self._making}
        if not manifest.exists():
            _write_whole(manifest, json.dumps(ours, indent=2).encode())
            return
        theirs = json.loads(manifest.read_text())
        if changed := [key for key in ours if ours[key] != theirs.get(key)]:
            lines = [
                f"{self.folder} was begun with other settings, and its rows would differ in the last bits",
                *(f"  {key}: {theirs.get(key)} in the folder, {ours[key]} now" for key in changed),
                "go on with those settings, or remove the folder to begin again",
            ]
            raise CacheError("\n".join(lines))

    def _shard(self, role: Role, start: int) -> Path:
        return self.folder / f"{role}-{start:09d}.npz"

    def has(self, role: Role, start: int) -> bool:
        """Whether the shard that begins at this row is finished; it is not read."""
        return self._shard(role, start).exists()

    def write(self, role: Role, start: int, rows: Rows, cost: Cost) -> None:
        """Leave a finished shard: built in memory, written in one piece, flushed to disk, renamed."""
        buffer = io.BytesIO()
        np.savez(buffer, **rows._asdict(), cost=np.asarray(cost, np.float64))
        _write_whole(self._shard(role, start), buffer.getvalue())

    def _read(self, role: Role, start: int) -> tuple[Rows, Cost]:
        path = self._shard(role, start)
        try:
            # Zip members carry a CRC, checked on reading. (Given a path, numpy leaves a broken zip file open.)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                seconds, images_computed = arrays["cost"].tolist()
                return Rows(*(arrays[name] for name in Rows._fields)), Cost(seconds, int(images_computed))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            path.unlink(missing_ok=True)
            raise DamagedShardError(f"shard {path} is damaged ({error}); it is made again") from error

    def finish(self, num_rows: dict[Role, int], shard_rows: int, provenance: dict[str, Any]) -> Path:
        """Merge the shards into the final file, beside its name, and rename it; then remove the folder.

        Raises:
          DamagedShardError: a shard is not what was written; it has been removed.
          CacheError: an id stands in two rows.
        """
        merged = self.folder / "merged.h5"
        with h5py.File(merged, "w", libver=(HDF5_VERSION, HDF5_VERSION)) as file:
            file.attrs["format"] = FORMAT
            file.attrs["spec"] = self._spec.to_json()
            file.attrs["fingerprint"] = self._spec.fingerprint
            file.attrs["class_names"] = json.dumps(self._class_names)
            seen: set[bytes] = set()
            costs: list[Cost] = []
            for role, count in num_rows.items():
                shards = (self._read(role, start) for start in range(0, count, shard_rows))
                _merge(file.create_group(role), count, shards, seen, costs)
            file.attrs["provenance"] = json.dumps({**provenance, **_summed(costs)})
        with merged.open("rb+") as raw:
            os.fsync(raw.fileno())
        merged.replace(self.path)
        _sync_folder(self.path.parent)
        shutil.rmtree(self.folder)
        return self.path


def _merge(
    group: h5py.Group, count: int, shards: Iterator[tuple[Rows, Cost]], seen: set[bytes], costs: list[Cost]
) -> None:
    """Write one role, shard by shard; ids are few bytes and are gathered for their common width."""
    ids: list[bytes] = []
    for shard, cost in shards:
        costs.append(cost)
        if not ids:
            _create(group, "features", (count, shard.features.shape[1]), shard.features.dtype)
            _create(group, "labels", (count,), shard.labels.dtype)
        rows = slice(len(ids), len(ids) + len(shard.ids))
        group["features"][rows] = shard.features
        group["labels"][rows] = shard.labels
        for id_ in shard.ids.tolist():
            if id_ in seen:
                raise CacheError(f"the id {id_.decode()!r} stands in two rows; ids are unique over all roles")
            seen.add(id_)
            ids.append(id_)
    values = np.asarray(ids)
    _create(group, "ids", values.shape, values.dtype)[:] = values


def _summed(costs: list[Cost]) -> dict[str, Any]:
    """Over all the processes that took part."""
    seconds, computed = sum(cost.seconds for cost in costs), sum(cost.images_computed for cost in costs)
    rate = round(computed / seconds, 2) if seconds else 0.0
    return {"seconds": round(seconds, 3), "images_computed": computed, "images_per_second": rate}


def _create(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
    chunk = (max(1, min(shape[0], CHUNK_BYTES // row_bytes)), *shape[1:])
    return group.create_dataset(name, shape, dtype, chunks=chunk, fletcher32=True)


def _write_whole(path: Path, content: bytes) -> None:
    """A file under this name is complete and on the disk, or absent."""
    partial = path.with_name(path.name + ".writing")
    with partial.open("wb") as file:
        file.write(content)
        _flush(file)
    partial.replace(path)
    _sync_folder(path.parent)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
