"""One array of an .npz file: its header and its values, read from an open member of the archive."""

import io
import math
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfl.text import to_printable

# Bytes to ask zipfile for at once. bz2 and lzma are given as much compressed data, and unpack all
# of it.
READ_BYTES = {zipfile.ZIP_STORED: 1 << 20, zipfile.ZIP_DEFLATED: 1 << 20}
SMALL_READ_BYTES = 1 << 12
MAX_SHOWN = 80  # characters of an array's name in a message


@dataclass(frozen=True)
class Header:
    """An array's description in an archive, read before any value.

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
        """True if the file holds the values uncompressed, row after row."""
        return self.info.compress_type == zipfile.ZIP_STORED and not self.is_fortran


def read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an .npy file; version 3 differs from 2 only in the encoding of field names."""
    magic = file.read(len(np.lib.format.MAGIC_PREFIX) + 2)
    if not magic.startswith(np.lib.format.MAGIC_PREFIX):
        raise ValueError(f"{shorten_name(file.name)} is no .npy array; write the file with np.savez")
    version = np.lib.format.read_magic(io.BytesIO(magic))
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"{shorten_name(file.name)} is of .npy version {version}; expected 1.0, 2.0 or 3.0")
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def read_values(file: Any, header: Header) -> np.ndarray:
    """Read all values as bytes `(num_bytes,)`; zipfile checks the checksum with the last read."""
    values = np.empty(header.num_bytes, np.uint8)
    most = READ_BYTES.get(header.info.compress_type, SMALL_READ_BYTES)
    filled = 0
    while filled < len(values):
        piece = file.read(min(most, len(values) - filled))
        if not piece:
            raise EOFError(f"{shorten_name(file.name)} ends after {filled:,} of {len(values):,} bytes")
        values[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
        filled += len(piece)
    return values


def shorten_name(name: str) -> str:
    """Return the beginning of an array's name, which may be of any length, in printable characters."""
    return to_printable(name[:MAX_SHOWN])
