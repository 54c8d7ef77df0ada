"""Opening HDF5 files; those of weights, from wherever a user has them, are looked through before Keras reads them."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tfl.errors import TflError
from tfl.files import trust

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_ATTRIBUTE_BYTES = 1 << 24
BLOCK_BYTES = 1 << 20
MAX_EXPANSION = 2  # of compressed arrays, over the file's size; weights hardly shrink
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


def open_plain(path: Path) -> h5py.File:
    """The HDF5 file, for reading; without HDF5's own lock, which readers do not need and shared disks may not have."""
    return h5py.File(path, "r", locking=False)


class _Unlocked(h5py.File):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"locking": False, **kwargs})


@contextlib.contextmanager
def without_locks() -> Iterator[None]:
    """Inside, other libraries open HDF5 files without HDF5's own lock too.

    Keras 3.15 offers no such choice, and shared disks may have no locks. (HDF5 reads HDF5_USE_FILE_LOCKING once, when
    it is loaded.)
    """
    before = h5py.File
    h5py.File = _Unlocked
    try:
        yield
    finally:
        h5py.File = before


def require_harmless(path: Path, error: type[TflError]) -> None:
    """Refuse a weights file that reaches outside itself, claims more than it holds, or cannot be read to its end.

    Raises:
      error: what is wrong with the file.
    """
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE))
    if start != SIGNATURE or path.suffix != ".h5":  # Keras goes by the suffix: it would take a .keras archive for one
        raise error(
            f"{path} is not an HDF5 file ({path.stat().st_size} bytes); expected .weights.h5 or .h5 of Keras, or .keras"
        )
    if not trust.is_known(path) and (found := trust.examine("weights", path)):
        raise error(f"{path} cannot be trusted; get it again:", *(f"  {problem}" for problem in found))


def find_problems(path: Path) -> list[str]:
    """What is wrong with a file of plain arrays in groups; empty if nothing. Every array is read to its end."""
    try:
        with open_plain(path) as file:
            walk = _Walk(path.stat().st_size)
            walk.group(file)
            return walk.problems
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- h5py tells of damage by a dozen kinds of exception
        return [f"it cannot be read: {error}"]


class _Walk:
    def __init__(self, file_bytes: int) -> None:
        self.problems: list[str] = []
        self._room = MAX_EXPANSION * file_bytes
        self._seen: set[Any] = set()

    def group(self, group: h5py.Group) -> None:
        where = h5py.h5o.get_info(group.id)
        if where.addr in self._seen:  # hard links may form a ring
            return
        self._seen.add(where.addr)
        self._attributes(group)
        for name in group.id:
            if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                self.problems.append(f"{group.name} holds a link, {name!r}, that may lead out of the file")
                continue
            member = group[name]
            if isinstance(member, h5py.Group):
                self.group(member)
            elif isinstance(member, h5py.Dataset):
                self._array(member)

    def _attributes(self, owner: h5py.Group | h5py.Dataset) -> None:
        """Read them too: Keras does, and text of variable length lies in a heap of any size."""
        for index in range(h5py.h5a.get_num_attrs(owner.id)):
            attribute = h5py.h5a.open(owner.id, index=index)
            num_bytes = attribute.get_type().get_size() * attribute.get_space().get_simple_extent_npoints()
            if num_bytes > MAX_ATTRIBUTE_BYTES:
                self.problems.append(f"{owner.name} has an attribute of {num_bytes:,} bytes")
            else:
                owner.attrs[attribute.name]

    def _array(self, array: h5py.Dataset) -> None:
        self._attributes(array)
        how = array.id.get_create_plist()
        filters = {how.get_filter(index)[0] for index in range(how.get_nfilters())}
        if how.get_layout() == h5py.h5d.VIRTUAL or how.get_external_count() or filters - FILTERS:
            self.problems.append(f"{array.name} is stored outside this file, or by an unknown filter")
        elif array.dtype.kind not in "fiub":
            self.problems.append(f"{array.name} holds {array.dtype}; expected numbers")
        else:
            self._room -= array.dtype.itemsize * math.prod(array.shape)
            if self._room < 0:
                self.problems.append(f"{array.name} of shape {array.shape} is larger than the file allows")
            else:
                _read_through(array)


def _read_through(array: h5py.Dataset) -> None:
    if not array.shape:
        array[()]
        return
    row_bytes = max(1, array.dtype.itemsize * math.prod(array.shape[1:]))
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, array.shape[0], step):
        np.asarray(array[start : start + step])
