"""Where the files of a tar begin, grouped into samples as the library webdataset groups them."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tfl.datasets.source import to_text
from tfl.errors import DatasetError
from tfl.text import to_printable

# As in webdataset 1.0.2, tariterators.py: `base_plus_ext`, and `skip_meta` of `tar_file_iterator`.
_KEY_AND_SUFFIX = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
_META = re.compile(r"__[^/]*__($|/)")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_END_BYTES = 2 * tarfile.BLOCKSIZE  # of zeros, which every tar ends with (POSIX, pax: "Ustar Interchange Format")
_READ_BYTES = 1 << 20


class Extent(NamedTuple):
    """Where the content of one file lies in its tar."""

    start: int
    num_bytes: int


@dataclass
class Sample:
    """Files of one tar that follow each other and have one name up to its first dot."""

    tar: Path
    key: str
    files: dict[str, Extent] = field(default_factory=dict)
    """By suffix, in lower case: `jpg`, `cls`, `left.png`."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{to_printable(to_text(self.key))} of {to_text(self.tar)}"

    def read(self, suffix: str) -> bytes:
        """Return a file's content."""
        return read_extent(self.tar, self.files[suffix])


def read_extent(tar: Path, extent: Extent) -> bytes:
    """Return a file's content.

    Raises:
      DatasetError: the tar cannot be read, or has become shorter.
    """
    try:
        with tar.open("rb") as file:
            file.seek(extent.start)
            content = file.read(extent.num_bytes)
    except OSError as error:
        raise DatasetError(f"cannot read {to_text(tar)}: {error.strerror}") from error
    if len(content) < extent.num_bytes:
        raise DatasetError(f"{to_text(tar)} has changed since the command began; give the command again")
    return content


def list_samples(tar: Path) -> Iterator[Sample]:
    """Yield the samples of a tar, in stored order.

    Files whose names have no dot, hidden files and folders belong to no sample.

    Raises:
      DatasetError: the tar is compressed, truncated or damaged, with the byte at which that shows; a
        file is stored as a link; or a sample has two files of one suffix.
    """
    sample: Sample | None = None
    for info in _list_files(tar):
        match = _KEY_AND_SUFFIX.fullmatch(info.name)
        if match is None or _META.match(info.name):
            continue
        key, suffix = match[1], match[2].lower()
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = Sample(tar, key)
        if suffix in sample.files:
            raise DatasetError(
                f"{sample.name} has two files .{to_printable(to_text(suffix))}, the second at byte {info.offset:,}; "
                "expected one of each suffix: give every image a name of its own"
            )
        sample.files[suffix] = Extent(info.offset_data, info.size)
    if sample is not None:
        yield sample


def _list_files(tar: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of a tar."""
    try:
        with tar.open("rb") as file:
            _require_uncompressed(tar, file)
            for info in _list_headers(tar, file):
                if info.isreg():
                    _require_contiguous(tar, info)
                    yield info
                elif info.islnk() or info.issym():
                    _refuse_link(tar, info)
    except OSError as error:
        raise DatasetError(f"cannot read {to_text(tar)}: {error.strerror or error}") from error


def _list_headers(tar: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield what a tar holds.

    Python's `tarfile` (3.11) takes a damaged or missing header for the end of the tar, so that the
    end is examined here.
    """
    num_bytes, position = tar.stat().st_size, 0
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep every header
                yield info
                position = archive.offset
            position = archive.offset
            _require_end(tar, file, position)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _damaged(tar, min(position, num_bytes), str(error)) from error


def _damaged(tar: Path, position: int, reason: str) -> DatasetError:
    return DatasetError(
        f"{to_text(tar)} is damaged or truncated at byte {position:,} ({to_printable(reason)}); "
        "expected a whole tar: fetch or write it again"
    )


def _require_uncompressed(tar: Path, file: BinaryIO) -> None:
    start = file.read(8)
    file.seek(0)
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise DatasetError(
                f"{to_text(tar)} is compressed with {name}; images are read by their place in the tar: decompress it"
            )


def _require_contiguous(tar: Path, info: tarfile.TarInfo) -> None:
    if info.issparse():
        raise DatasetError(
            f"{to_printable(to_text(info.name))} at byte {info.offset:,} of {to_text(tar)} is stored with holes; "
            "write the tar without --sparse"
        )


def _refuse_link(tar: Path, info: tarfile.TarInfo) -> None:
    """Refuse a link that looks like a part of a sample: the library webdataset leaves it out without a word."""
    if _KEY_AND_SUFFIX.fullmatch(info.name):
        raise DatasetError(
            f"{to_printable(to_text(info.name))} at byte {info.offset:,} of {to_text(tar)} is a link; expected the "
            "file itself: write the tar with --dereference --hard-dereference"
        )


def _require_end(tar: Path, file: BinaryIO, position: int) -> None:
    """Refuse a tar that does not end where its last file does: with two blocks of zeros, and zeros after them."""
    file.seek(position)
    num_zeros = 0
    while block := file.read(_READ_BYTES):
        num_leading = len(block) - len(block.lstrip(b"\0"))
        num_zeros += num_leading
        if num_leading < len(block):
            at_block = position + num_zeros // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            raise _damaged(tar, at_block, "no header of a file begins there")
    if num_zeros < _END_BYTES:
        raise _damaged(tar, position + num_zeros, "it ends without the two empty blocks that end a tar")
