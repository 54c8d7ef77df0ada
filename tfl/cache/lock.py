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
from typing import TextIO

from tfl.cache.shards import raise_if_full
from tfl.errors import CacheError

TRIES = 5  # for `holder_of`, in another process, holds the lock for an instant
SECONDS_BETWEEN_TRIES = 0.05
NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS}  # of a shared disk without a lock service


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there.

    Args:
      what: the words for what is being made, for the refusal.

    Raises:
      CacheError: another process holds it; which one, on which host.
    """
    lock, has_locks = _taken(folder, what)
    with lock:
        _sign(lock, folder)
        try:
            yield
        finally:
            if not has_locks:
                (folder / "lock").unlink(missing_ok=True)


def _sign(lock: TextIO, folder: Path) -> None:
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
        with (folder / "lock").open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(lock)
            except OSError as error:
                holder = _holder(lock)
                return holder if error.errno in NO_LOCKS and not _is_dead(holder) else ""
    except OSError:
        pass
    return ""


def _taken(folder: Path, what: str) -> tuple[TextIO, bool]:
    """The open lock file, locked, and whether the disk has locks at all.

    Another process that finishes removes the folder: then a new one is made.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lock = (folder / "lock").open("a+", encoding="utf-8")
            try:
                has_locks = _take(lock, folder, what)
                if _is_there(lock, folder):
                    return lock, has_locks
            except BaseException:
                lock.close()
                raise
            lock.close()


def _is_there(lock: TextIO, folder: Path) -> bool:
    """Whether the open file is still the folder's."""
    return os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat())


def _take(lock: TextIO, folder: Path, what: str) -> bool:
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


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read().strip()


def _is_dead(holder: str) -> bool:
    """Whether the holder was a process of this machine that is there no more; of another machine nobody can know."""
    process, _, host = holder.removeprefix("process ").partition(" on ")
    if host != platform.node() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
