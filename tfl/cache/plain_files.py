"""Opening what lies in the folder of an unfinished cache, where anybody may have put something else."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from tfl.errors import CacheError


def open_regular(path: Path, flags: int = os.O_RDONLY) -> BinaryIO:
    """Open a regular file; a link is not followed, and a FIFO that nobody writes to is not waited for.

    Args:
      flags: `O_RDONLY` or `O_RDWR`, and for instance `O_CREAT`.

    Raises:
      CacheError: it is a folder, a link, a FIFO or a device.
      OSError: it is not there, or may not be opened.
    """
    require_regular(path)
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _other_kind(path)
    is_read_only = flags & os.O_ACCMODE == os.O_RDONLY
    return os.fdopen(descriptor, "rb") if is_read_only else os.fdopen(descriptor, "r+b")


def require_regular(path: Path) -> None:
    """Refuse what stands under the name of a file and is none.

    Raises:
      CacheError: it is a folder, a link, a FIFO or a device.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise _other_kind(path)


def _other_kind(path: Path) -> CacheError:
    return CacheError(f"{path} is not a regular file, and tfl writes one there; remove it, then give the command again")
