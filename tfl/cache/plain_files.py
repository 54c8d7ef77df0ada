"""Files of an unfinished cache: written whole, and read with care: anybody may have put them there."""

import errno
import os
import stat
import uuid
from pathlib import Path
from typing import BinaryIO

from tfl.errors import CacheError

UNFINISHED = ".writing"  # the end of a file's name while it is being written
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def open_regular(path: Path, flags: int = os.O_RDONLY) -> BinaryIO:
    """Open a regular file; follow no link, and do not wait at a FIFO that nobody writes to.

    Args:
      flags: `O_RDONLY` or `O_RDWR`, and for instance `O_CREAT`.

    Raises:
      CacheError: it is a folder, a link, a FIFO or a device.
      OSError: it does not exist, or may not be opened.
    """
    require_regular(path)
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    is_read_only = flags & os.O_ACCMODE == os.O_RDONLY
    return os.fdopen(descriptor, "rb") if is_read_only else os.fdopen(descriptor, "r+b")


def require_regular(path: Path) -> None:
    """Refuse what is not a regular file; a file that does not exist is accepted.

    Raises:
      CacheError: it is a folder, a link, a FIFO or a device.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise _not_regular(path)


def _not_regular(path: Path) -> CacheError:
    return CacheError(f"{path} is not a regular file, and tfl writes one there; remove it, then give the command again")


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file so that under its name it is complete and on the disk, or absent.

    Args:
      parts: the content, one after the other.

    Raises:
      CacheError: the disk is full.
    """
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise_if_full(error, path.parent, sum(map(len, parts)))
        raise
    sync_folder(path.parent)


def raise_if_full(error: OSError, folder: Path, needed_bytes: int) -> None:
    """Raise a CacheError that says what to do if a system error means that the disk is full."""
    if error.errno in DISK_FULL:
        raise CacheError(
            f"{folder} has no room: {needed_bytes:,} bytes are needed there ({error.strerror}). What was finished is "
            "kept: make room, and give the same command again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # a file system that cannot do this for a folder
            raise
    finally:
        os.close(descriptor)
