"""One process at a time works in a folder; the operating system lets go of it when that process ends, however it ends.

The lock saves double work; that files are whole does not depend on it, for each is written under a name of its own.
"""

import contextlib
import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tfl.cache.plain_files import open_regular
from tfl.cache.shards import raise_if_full
from tfl.errors import CacheError
from tfl.text import to_printable

TRIES = 5  # for `holder_of`, in another process, holds the lock for an instant
SECONDS_BETWEEN_TRIES = 0.05
MAX_HOLDER_BYTES = 300  # of a lock file; host names have 253 at most
NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS}  # of a shared disk without a lock service


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there.

    Args:
      what: the words for what is being made, for the refusal.

    Raises:
      CacheError: another process holds it; which one, on which host. Or its lock is no regular file.
    """
    lock, has_locks = _taken(folder, what)
    with lock:
        _sign(lock, folder)
        try:
            yield
        finally:
            if not has_locks:
                (folder / "lock").unlink(missing_ok=True)


def _sign(lock: BinaryIO, folder: Path) -> None:
    """Write who holds the lock; straight to the file, so that nothing waits in a buffer for a disk that is full."""
    text = f"process {os.getpid()} on {platform.node()}".encode()
    try:
        lock.truncate(0)
        os.write(lock.fileno(), text)
    except OSError as error:
        (folder / "lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless it holds shards
        raise_if_full(error, folder, len(text))
        raise


def holder_of(folder: Path) -> str:
    """The process that works in a folder, `process 17 on host`; empty if none does."""
    try:
        with open_regular(folder / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(lock)
            except OSError as error:
                holder = _holder(lock)
                return holder if error.errno in NO_LOCKS and not _is_dead(holder) else ""
    except (OSError, CacheError):
        pass
    return ""


def _taken(folder: Path, what: str) -> tuple[BinaryIO, bool]:
    """The open lock file, locked, and whether the disk has locks at all.

    Another process that finishes removes the folder: then a new one is made.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lock = open_regular(folder / "lock", os.O_RDWR | os.O_CREAT)
            try:
                has_locks = _take(lock, folder, what)
                if _is_there(lock, folder):
                    return lock, has_locks
            except BaseException:
                lock.close()
                raise
            lock.close()


def _is_there(lock: BinaryIO, folder: Path) -> bool:
    """Whether the open file is still the folder's."""
    return os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat())


def _take(lock: BinaryIO, folder: Path, what: str) -> bool:
    """Take the lock or refuse; returns whether the disk has locks at all."""
    for is_last in (*[False] * TRIES, True):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if is_last:
                raise CacheError(f"{what} is being made by {_holder(lock)}; wait for it") from None
            time.sleep(SECONDS_BETWEEN_TRIES)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            break
    holder = _holder(lock)
    if holder and not _is_dead(holder):
        raise CacheError(
            f"{what} is being made by {holder}, as {folder / 'lock'} says (this disk has no locks); wait for it, or "
            "remove that file if the process is gone"
        )
    return False


def _holder(lock: BinaryIO) -> str:
    """Return what the lock file says, made safe to show: it may hold anything."""
    text = os.pread(lock.fileno(), MAX_HOLDER_BYTES, 0).decode(errors="replace")
    return to_printable(text.strip())


def _is_dead(holder: str) -> bool:
    """Whether the holder was a process of this machine that is there no more; of another machine nobody can know."""
    process, _, host = holder.removeprefix("process ").partition(" on ")
    if host != platform.node() or not (process.isascii() and process.isdecimal()):
        return False
    if int(process) == 0:
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):  # no process has a number that large
        return True
    except PermissionError:
        pass
    return False
