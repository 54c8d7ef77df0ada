"""Opening HDF5 files, and examining files of weights before Keras reads them."""

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
MAX_EXPANSION = 2  # bytes of all arrays over bytes of the file: weights hardly compress
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


def open_unlocked(path: Path) -> h5py.File:
    """Open an HDF5 file for reading without HDF5's own lock: shared disks may lack locks."""
    return h5py.File(path, "r", locking=False)


class _Unlocked(h5py.File):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"locking": False, **kwargs})


@contextlib.contextmanager
def without_locks() -> Iterator[None]:
    """Make other libraries open HDF5 files without HDF5's own lock too, until the context ends.

    Keras 3.15 has no option for it, and shared disks may lack locks. (HDF5 reads
    HDF5_USE_FILE_LOCKING only once, when it is loaded.)
    """
    before = h5py.File
    h5py.File = _Unlocked
    try:
        yield
    finally:
        h5py.File = before


def require_harmless(path: Path, error: type[TflError]) -> None:
    """Refuse a weights file that links outside itself, claims too much, or cannot be read.

    Args:
      error: the kind of error to raise.

    Raises:
      error: the file is refused; names each problem.
    """
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE))
    if start != SIGNATURE or path.suffix != ".h5":  # Keras goes by the suffix alone
        raise error(
            f"{path} is not an HDF5 file ({path.stat().st_size} bytes); expected .weights.h5 or .h5 of Keras, or .keras"
        )
    if trust.is_trusted(path):
        return
    if problems := trust.examine("weights", path):
        raise error(f"{path} cannot be trusted; get it again:", *(f"  {problem}" for problem in problems))


def find_problems(path: Path) -> list[str]:
    """Return what is wrong with a file of plain arrays in groups; read every array to its end."""
    try:
        with open_unlocked(path) as file:
            examination = _Examination(path.stat().st_size)
            examination.examine_group(file)
            return examination.problems
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- h5py raises a dozen kinds of exception for damage
        return [f"it cannot be read: {error}"]


class _Examination:
    """Walk through a file's groups and arrays, collecting problems."""

    def __init__(self, file_bytes: int) -> None:
        self.problems: list[str] = []
        self._room = MAX_EXPANSION * file_bytes
        self._seen: set[Any] = set()

    def examine_group(self, group: h5py.Group) -> None:
        address = h5py.h5o.get_info(group.id).addr
        if address in self._seen:  # hard links may form a ring
            return
        self._seen.add(address)
        self._examine_attributes(group)
        for name in group.id:
            if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                self.problems.append(f"{group.name} holds a link, {name!r}, that may lead out of the file")
                continue
            member = group[name]
            if isinstance(member, h5py.Group):
                self.examine_group(member)
            elif isinstance(member, h5py.Dataset):
                self._examine_array(member)

    def _examine_attributes(self, owner: h5py.Group | h5py.Dataset) -> None:
        """Read the attributes: Keras does, and text of variable length lies in a heap of any size."""
        for index in range(h5py.h5a.get_num_attrs(owner.id)):
            attribute = h5py.h5a.open(owner.id, index=index)
            num_bytes = attribute.get_type().get_size() * attribute.get_space().get_simple_extent_npoints()
            if num_bytes > MAX_ATTRIBUTE_BYTES:
                self.problems.append(f"{owner.name} has an attribute of {num_bytes:,} bytes")
            else:
                owner.attrs[attribute.name]

    def _examine_array(self, array: h5py.Dataset) -> None:
        self._examine_attributes(array)
        storage = array.id.get_create_plist()
        filters = {storage.get_filter(index)[0] for index in range(storage.get_nfilters())}
        is_outside = storage.get_layout() == h5py.h5d.VIRTUAL or storage.get_external_count() > 0
        if is_outside or filters - FILTERS:
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
    """Read an array block by block."""
    if not array.shape:
        array[()]
        return
    row_bytes = max(1, array.dtype.itemsize * math.prod(array.shape[1:]))
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, array.shape[0], step):
        np.asarray(array[start : start + step])
