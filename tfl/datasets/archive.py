"""The arrays of an .npz file, read from one open file."""

import contextlib
import os
import stat
import warnings
import weakref
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from tfl.datasets.npy import Header, read_header, read_values, shorten_name
from tfl.datasets.source import to_text
from tfl.errors import DatasetError
from tfl.machine.memory import available_memory
from tfl.text import to_printable

SUFFIX = ".npy"


class Archive:
    """An .npz file, opened once: a file that takes its name later is not looked at.

    Raises:
      DatasetError: there is no such file, or it is not an archive of arrays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open(path)
        weakref.finalize(self, os.close, self._descriptor)
        with self.reading():
            self.num_bytes = os.fstat(self._descriptor).st_size
            # numpy's own readers find no array in a file that is no archive, and neither does this.
            self._file = open(self._descriptor, "rb", closefd=False)  # noqa: SIM115 -- a descriptor
            self._zip = zipfile.ZipFile(self._file)
        self._counts = Counter(_array_name(info) for info in self._zip.infolist())

    @property
    def names(self) -> list[str]:
        """The arrays' names, in the file's order, without `.npy`."""
        return list(self._counts)

    def header(self, name: str) -> Header:
        """Read what the archive says about an array, and check it against the file's size.

        Raises:
          DatasetError: the name occurs twice, it is not an array of plain values, or it claims more
            bytes than there are.
        """
        if self._counts[name] > 1:
            raise self.unreadable(f"it holds {shorten_name(name)} {self._counts[name]} times")
        info = next(info for info in self._zip.infolist() if _array_name(info) == name)
        with self.reading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of files that Python 2 wrote
            with self._zip.open(info) as file:
                shape, is_fortran, dtype = read_header(file)
                header = Header(info, dtype, tuple(map(int, shape)), bool(is_fortran), file.tell())
        self._require_plain(name, header)
        return header

    def _require_plain(self, name: str, header: Header) -> None:
        described = f"{shorten_name(name)} is {header.dtype.str} {header.shape}"
        if header.dtype.hasobject:
            raise self.unreadable(
                f"{shorten_name(name)} holds Python objects (images of differing sizes do not fit one array: give a "
                "folder of images)"
            )
        if header.dtype.itemsize == 0 or min(header.shape, default=0) < 0:
            raise self.unreadable(f"{described}, which no array is")
        if header.info.file_size != header.start + header.num_bytes:
            found = f"the file holds {header.info.file_size - header.start:,} of its {header.num_bytes:,} bytes"
            raise self.unreadable(f"{described}, but {found}")
        is_stored = header.info.compress_type == zipfile.ZIP_STORED
        if is_stored and not header.info.file_size == header.info.compress_size <= self.num_bytes:
            raise self.unreadable(f"{described}, and the file gives two sizes for it")

    def read(self, name: str, header: Header) -> np.ndarray:
        """Read a whole array into memory and check it against the archive's checksum.

        Raises:
          DatasetError: it is damaged, or does not fit into memory.
        """
        needed = header.num_bytes * (2 if header.is_fortran else 1)
        available = available_memory()
        if needed > available:
            raise DatasetError(
                f"{shorten_name(name)} of {self.path} takes {needed:,} bytes of memory, and {available:,} are "
                "available; write the file anew with np.savez, uncompressed and in C order, or give a folder of images"
            )
        with self.reading(), self._zip.open(header.info) as file:
            file.read(header.start)
            values = read_values(file, header)
        order: Literal["F", "C"] = "F" if header.is_fortran else "C"
        array = values.view(header.dtype).reshape(header.shape, order=order)
        array.flags.writeable = False
        return array

    def read_in_blocks(self, header: Header, num_rows: int) -> Iterator[np.ndarray]:
        """Yield an array in C order in blocks of `num_rows` rows; the last checks the archive's checksum.

        Raises:
          DatasetError: it is damaged.
        """
        with self.reading(), self._zip.open(header.info) as file:
            file.read(header.start)
            for start in range(0, header.shape[0], num_rows):
                count = min(num_rows, header.shape[0] - start)
                part = replace(header, shape=(count, *header.shape[1:]))
                yield read_values(file, part).view(header.dtype).reshape(part.shape)
            file.read(1)

    def read_bytes(self, start: int, count: int) -> bytes:
        """Read bytes of the file that was opened; fewer if it has become shorter."""
        pieces = []
        while count and (piece := os.pread(self._descriptor, count, start)):
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn whatever is raised while a stranger's bytes are interpreted into a refusal of the file."""
        try:
            yield
        except (DatasetError, MemoryError):
            raise
        except Exception as error:
            raise self.unreadable(_describe(error)) from error

    def unreadable(self, reason: str) -> DatasetError:
        """Return the error for a file that does not hold what it should."""
        return DatasetError(f"{self.path} cannot be read as an .npz file of plain arrays: {reason}")

    def changed(self) -> DatasetError:
        """Return the error for a file whose content is not what it was when it was opened."""
        return DatasetError(f"{self.path} has changed since the command began; give the command again")


def _open(path: Path) -> int:
    """Return a descriptor of a regular file; never wait for a pipe."""
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


def _describe(error: Exception) -> str:
    lines = to_text(str(error)).splitlines()
    return to_printable(lines[0][:200]) if lines else type(error).__name__
