"""An array that stays in its .npz file: every row that is read is the one that was digested, or an error."""

import math
import zlib
from typing import Any

import numpy as np

from tfl.datasets.archive import Archive
from tfl.datasets.npy import Header, shorten_name
from tfl.errors import DatasetError

BLOCK_BYTES = 1 << 20  # bytes of the rows that are read and checked together; at least one row
LOCAL_HEADER_BYTES = 30  # its last two numbers are the sizes of the name and the extra field that follow


class StoredArray:
    """An uncompressed array `(n, ...)` of an archive, read by rows.

    `digest_into` keeps the state of the digest before and after each block of rows; a block that is
    read again must lead from one to the other.

    Raises:
      DatasetError: the array is not where the archive says.
    """

    def __init__(self, archive: Archive, name: str, header: Header) -> None:
        self.dtype, self.shape = header.dtype, header.shape
        self._archive, self._name, self._info = archive, name, header.info
        self._start = _find_start(archive, name, header)
        self._values_start = self._start + header.start
        self._row_bytes = max(1, header.num_bytes // max(1, self.shape[0]))
        self._block_rows = max(1, BLOCK_BYTES // self._row_bytes)
        self._states: list[Any] = []
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def digest_into(self, digest: Any) -> None:
        """Add all values to a sha256, keep its states, and check the archive's checksum.

        Raises:
          DatasetError: the values are damaged, or the file is truncated.
        """
        checksum = zlib.crc32(self._archive.read_bytes(self._start, self._values_start - self._start))
        self._states = [digest.copy()]
        for block in range(math.ceil(len(self) / self._block_rows)):
            content = self._read(block)
            digest.update(content)
            checksum = zlib.crc32(content, checksum)
            self._states.append(digest.copy())
        if checksum != self._info.CRC:
            raise self._archive.unreadable(
                f"{shorten_name(self._name)} is damaged (its checksum does not match); fetch or write the file again"
            )

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        """Return a copy of one row, or of the rows of a slice without a step.

        Raises:
          DatasetError: the file has changed.
        """
        if isinstance(rows, slice):
            return self._copy_rows(*rows.indices(len(self))[:2])
        block, row_in_block = divmod(rows, self._block_rows)
        return np.array(self._read_once(block)[row_in_block])

    def _copy_rows(self, start: int, stop: int) -> np.ndarray:
        copied = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        row = start
        while row < stop:
            block, row_in_block = divmod(row, self._block_rows)
            rows = self._read_once(block)[row_in_block : row_in_block + stop - row]
            copied[row - start : row - start + len(rows)] = rows
            row += len(rows)
        return copied

    def _read_once(self, block: int) -> np.ndarray:
        """Return the rows of a block; the last block stays in memory."""
        if self._last is None or self._last[0] != block:
            self._last = block, self._read_checked(block)
        return self._last[1]

    def _read_checked(self, block: int) -> np.ndarray:
        content = self._read(block)
        state = self._states[block].copy()
        state.update(content)
        if state.digest() != self._states[block + 1].digest():
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


def _find_start(archive: Archive, name: str, header: Header) -> int:
    """Return the byte of the file at which an array's member begins."""
    info = header.info
    with archive.reading():
        local = archive.read_bytes(info.header_offset, LOCAL_HEADER_BYTES)
        name_bytes, extra_bytes = np.frombuffer(local[-4:], "<u2").tolist()
        start = int(info.header_offset + LOCAL_HEADER_BYTES + name_bytes + extra_bytes)
        num_missing = start + info.file_size - archive.num_bytes
        if num_missing > 0:
            raise EOFError(f"{shorten_name(name)} ends {num_missing:,} bytes after the end of the file")
    return start
