"""The arrays of an .npz file, read from one open file: what is handed out is what was first seen, or an error."""

import contextlib
import hashlib
import io
import math
import os
import stat
import warnings
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfl.datasets.source import to_text
from tfl.errors import DatasetError
from tfl.machine.memory import available_memory
from tfl.text import to_printable

BLOCK_BYTES = 1 << 20  # of rows that are read and compared together; one row at least
# Bytes asked for at once. zipfile gives as much compressed data to bz2 and lzma, which unpack all of it.
PIECE_BYTES = {zipfile.ZIP_STORED: 1 << 20, zipfile.ZIP_DEFLATED: 1 << 20}
SMALL_PIECE_BYTES = 1 << 12
LOCAL_HEADER_BYTES = 30  # then the name and the extra field, whose sizes are its last two numbers
SUFFIX = ".npy"


@dataclass(frozen=True)
class Header:
    """What an archive says of one array, before any value is read.

    Attributes:
      start: bytes of the member before the first value.
    """

    info: zipfile.ZipInfo
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool
    start: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_stored(self) -> bool:
        """Whether the values lie in the file as they are, row after row."""
        return self.info.compress_type == zipfile.ZIP_STORED and not self.is_fortran


class Archive:
    """An .npz file, opened once. A file that takes its name later is another one, and is not looked at.

    Raises:
      DatasetError: there is no such file, or it is no archive of arrays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open(path)
        weakref.finalize(self, os.close, self._descriptor)
        with self._reading():
            self._num_bytes = os.fstat(self._descriptor).st_size
            # numpy's own readers find no array in a file that is no archive, and so does this.
            self._file = open(self._descriptor, "rb", closefd=False)  # noqa: SIM115 -- a descriptor
            self._zip = zipfile.ZipFile(self._file)
        self._counts = Counter(_array_name(info) for info in self._zip.infolist())

    @property
    def names(self) -> list[str]:
        """The arrays' names, in the file's order, without `.npy`."""
        return list(self._counts)

    def header(self, name: str) -> Header:
        """Read what the archive says of an array, and hold it against the file's size.

        Raises:
          DatasetError: it stands twice, is no array of plain values, or claims more than there is.
        """
        if self._counts[name] > 1:
            raise self._refusal(f"it holds {_shown(name)} {self._counts[name]} times")
        info = next(info for info in self._zip.infolist() if _array_name(info) == name)
        with self._reading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that Python 2 wrote
            with self._zip.open(info) as file:
                shape, is_fortran, dtype = _read_header(file)
                header = Header(info, dtype, tuple(map(int, shape)), bool(is_fortran), file.tell())
        self._require_plain(name, header)
        return header

    def _require_plain(self, name: str, header: Header) -> None:
        described = f"{_shown(name)} is {header.dtype.str} {header.shape}"
        if header.dtype.hasobject:
            raise self._refusal(
                f"{_shown(name)} holds Python objects (images of differing sizes do not fit one array: give a folder "
                "of images)"
            )
        if header.dtype.itemsize == 0 or min(header.shape, default=0) < 0:
            raise self._refusal(f"{described}, which no array is")
        if header.info.file_size != header.start + header.num_bytes:
            found = f"the file holds {header.info.file_size - header.start:,} of its {header.num_bytes:,} bytes"
            raise self._refusal(f"{described}, but {found}")
        is_packed = header.info.compress_type != zipfile.ZIP_STORED
        if not is_packed and not header.info.file_size == header.info.compress_size <= self._num_bytes:
            raise self._refusal(f"{described}, of which the file says two sizes")

    def read(self, name: str, header: Header) -> np.ndarray:
        """Read a whole array into memory; the archive's checksum of it holds.

        Raises:
          DatasetError: it is damaged, or memory does not suffice.
        """
        needed = header.num_bytes * (2 if header.is_fortran else 1)
        if needed > (available := available_memory()):
            raise DatasetError(
                f"{_shown(name)} of {self.path} takes {needed:,} bytes of memory, and {available:,} are available; "
                "write the file anew with np.savez, uncompressed and in C order, or give a folder of images"
            )
        with self._reading(), self._zip.open(header.info) as file:
            file.read(header.start)
            values = _read_values(file, header)
        array = values.view(header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")
        array.flags.writeable = False
        return array

    def rows(self, name: str, header: Header) -> "Rows":
        """Leave a stored array in the file, to be read row by row.

        Raises:
          DatasetError: its place is not where the archive says.
        """
        info = header.info
        with self._reading():
            local = self.read_bytes(info.header_offset, LOCAL_HEADER_BYTES)
            name_bytes, extra_bytes = np.frombuffer(local[-4:], "<u2").tolist()
            start = info.header_offset + LOCAL_HEADER_BYTES + name_bytes + extra_bytes
            if start + info.file_size > self._num_bytes:
                raise EOFError(f"{_shown(name)} ends {start + info.file_size - self._num_bytes:,} bytes behind it")
        return Rows(self, name, header, start)

    def read_bytes(self, start: int, count: int) -> bytes:
        """Read bytes of the file that was opened; fewer if it has become shorter."""
        pieces = []
        while count and (piece := os.pread(self._descriptor, count, start)):
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Around everything that interprets a stranger's bytes: whatever that raises is the file's fault."""
        try:
            yield
        except (DatasetError, MemoryError):
            raise
        except Exception as error:
            raise self._refusal(_reason(error)) from error

    def _refusal(self, reason: str) -> DatasetError:
        return DatasetError(f"{self.path} cannot be read as an .npz file of plain arrays: {reason}")

    def changed(self) -> DatasetError:
        """The error for a file that is not what it was when it was opened."""
        return DatasetError(f"{self.path} has changed since the command began; give the command again")


class Rows:
    """An array `(n, ...)` that stays in its file; no row is handed out that is not the one that was digested.

    Every block of rows is held by the state of the digest before and after it.
    """

    def __init__(self, archive: Archive, name: str, header: Header, start: int) -> None:
        self.dtype, self.shape = header.dtype, header.shape
        self._archive, self._name, self._info = archive, name, header.info
        self._start, self._values_start = start, start + header.start
        self._row_bytes = max(1, header.num_bytes // max(1, self.shape[0]))
        self._block_rows = max(1, BLOCK_BYTES // self._row_bytes)
        self._states: list[Any] = []
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def digest_into(self, digest: Any) -> None:
        """Add all values to a sha256, and keep its states; the archive's checksum holds too.

        Raises:
          DatasetError: the values are damaged, or the file is cut short.
        """
        checksum = zlib.crc32(self._archive.read_bytes(self._start, self._values_start - self._start))
        self._states = [digest.copy()]
        for block in range(math.ceil(len(self) / self._block_rows)):
            content = self._read(block)
            digest.update(content)
            checksum = zlib.crc32(content, checksum)
            self._states.append(digest.copy())
        if checksum != self._info.CRC:
            raise DatasetError(
                f"{self._archive.path} cannot be read as an .npz file of plain arrays: {_shown(self._name)} is damaged "
                "(its checksum does not hold); fetch or write the file again"
            )

    def __getitem__(self, row: int) -> np.ndarray:
        """Return a copy of one row.

        Raises:
          DatasetError: the file has changed.
        """
        block, place = divmod(row, self._block_rows)
        if self._last is None or self._last[0] != block:
            self._last = block, self._checked(block)
        _, rows = self._last
        return np.array(rows[place])

    def _checked(self, block: int) -> np.ndarray:
        content = self._read(block)
        now = self._states[block].copy()
        now.update(content)
        if now.digest() != self._states[block + 1].digest():
            raise self._archive.changed()
        rows: np.ndarray = np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])
        return rows

    def _read(self, block: int) -> bytes:
        first = block * self._block_rows
        count = (min(first + self._block_rows, len(self)) - first) * self._row_bytes
        try:
            content = self._archive.read_bytes(self._values_start + first * self._row_bytes, count)
        except OSError as error:
            raise DatasetError(f"cannot read {self._archive.path}: {error.strerror}") from error
        if len(content) < count:
            raise self._archive.changed()
        return content


def digest_of(arrays: dict[str, "np.ndarray | Rows"], names: list[str]) -> Any:
    """Return the sha256, as an object, of these arrays' names, dtypes, shapes and values; `Rows` are read once."""
    digest = hashlib.sha256()
    for name in names:
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode(errors="backslashreplace"))
        if isinstance(array, Rows):
            array.digest_into(digest)
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest


def _open(path: Path) -> int:
    """Return a descriptor of a regular file; a pipe is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DatasetError(f"{path} cannot be opened: {error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DatasetError(f"{path} cannot be read as an .npz file of plain arrays: it is a folder or a pipe")
    return descriptor


def _array_name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(SUFFIX)


def _shown(name: str) -> str:
    return to_printable(name[:80])


def _read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the beginning of an .npy file; version 3 differs from 2 in the encoding of field names alone."""
    magic = file.read(len(np.lib.format.MAGIC_PREFIX) + 2)
    if not magic.startswith(np.lib.format.MAGIC_PREFIX):
        raise ValueError(f"{_shown(file.name)} is no .npy array; write the file with np.savez")
    version = np.lib.format.read_magic(io.BytesIO(magic))
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"{_shown(file.name)} is of .npy version {version}; expected 1.0, 2.0 or 3.0")
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _read_values(file: Any, header: Header) -> np.ndarray:
    """Read all values as bytes `(num_bytes,)`; the last read has zipfile hold its checksum."""
    values = np.empty(header.num_bytes, np.uint8)
    most = PIECE_BYTES.get(header.info.compress_type, SMALL_PIECE_BYTES)
    filled = 0
    while filled < len(values):
        piece = file.read(min(most, len(values) - filled))
        if not piece:
            raise EOFError(f"{_shown(file.name)} ends after {filled:,} of {len(values):,} bytes")
        values[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
        filled += len(piece)
    return values


def _reason(error: Exception) -> str:
    lines = to_text(str(error)).splitlines()
    return to_printable(lines[0][:200]) if lines else type(error).__name__
