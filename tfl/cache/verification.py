"""Comparison of every byte of a cache file with what was written."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tfl.cache.file import open_cache, read_file_header
from tfl.cache.ids import UniqueIds
from tfl.cache.schema import Header, array_names, require_signature
from tfl.files import trust
from tfl.files.hdf5 import open_unlocked
from tfl.files.paths import expand_user
from tfl.specs import DIGEST_PREFIX


def verify(path: Path) -> list[str]:
    """Read a cache file to its end in a limited process; compare it with what was written.

    Returns:
      A line for each problem, with the array and its rows; empty if every byte is right.

    Raises:
      CacheError: there is no such file.
    """
    path = expand_user(path)
    if not path.is_file():
        open_cache(path)  # raises an error that says why
    return trust.examine("cache", path)


def find_problems(path: Path) -> list[str]:
    """Do what `verify` does, in this process."""
    try:
        require_signature(path)
        header = read_file_header(path)
        with open_unlocked(path) as file:
            return list(_examine_rows(file, header))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- h5py raises a dozen kinds of exception for damage
        return [str(error)]


def _examine_rows(file: h5py.File, header: Header) -> Iterator[str]:
    ids = UniqueIds()
    for role in header.num_rows:
        for name in array_names(header.spec):
            yield from _examine_array(file[role][name], f"{role}/{name}", header, ids)


def _examine_array(array: h5py.Dataset, what: str, header: Header, ids: UniqueIds) -> Iterator[str]:
    digest, is_whole = hashlib.sha256(), True
    for start, stop in _chunk_ranges(array):
        try:
            block = np.ascontiguousarray(array[start:stop])
        except (OSError, RuntimeError, ValueError) as error:
            yield f"{what} rows {start} to {stop - 1} are damaged ({error})"
            is_whole = False
            continue
        digest.update(block.view(np.uint8).data)
        problem = _describe_problem(block, what, header, ids)
        if problem:
            yield f"{what} rows {start} to {stop - 1}: {problem}"
    if is_whole and DIGEST_PREFIX + digest.hexdigest() != header.digests[what]:
        yield f"{what} rows 0 to {len(array) - 1} are not those that were written (another sha256)"


def _describe_problem(block: np.ndarray, what: str, header: Header, ids: UniqueIds) -> str:
    name = what.partition("/")[2]
    if name not in ("labels", "ids"):
        return "" if np.isfinite(block).all() else "a value is not a finite number"
    if name == "labels":
        last = len(header.class_names) - 1
        return "" if block.min() >= 0 and block.max() <= last else f"a label is not between 0 and {last}"
    try:
        b"".join(block.tolist()).decode()
    except UnicodeDecodeError as error:
        return f"an id is not UTF-8 ({error})"
    repeated = ids.add(block)
    return "" if repeated is None else f"the id {repeated!r} appears in two rows"


def _chunk_ranges(array: h5py.Dataset) -> Iterator[tuple[int, int]]:
    step = array.chunks[0]
    return ((start, min(start + step, len(array))) for start in range(0, len(array), step))
