"""A lock on a folder, held by one process at a time and released however that process ends.

The lock saves duplicate work. That files are whole does not depend on it: each is written under a
name of its own.

The package filelock (4.3) was tried and not adopted. It would replace the one call of `flock` here,
and all the rest would stay: it takes a FIFO for a lock file, stops with "No locks available" on a
shared disk without a lock service, and does not say which process holds the lock. Version 3.20.0
still followed a link and emptied the file behind it.
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

from tfl.cache.plain_files import open_regular, raise_if_full
from tfl.errors import CacheError
from tfl.text import to_printable

TRIES = 5  # `find_holder`, in another process, holds the lock for an instant
SECONDS_BETWEEN_TRIES = 0.05
MAX_HOLDER_BYTES = 300  # read from a lock file; host names have at most 253
NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS}  # a shared disk without lock service


@contextlib.contextmanager
def hold_folder(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock on a folder, which is made if it does not exist.

    Args:
      what: what is being made there, as the error names it.

    Raises:
      CacheError: another process holds it (the error names process and host), or the lock is not a
        regular file.
    """
    lock, has_locks = _acquire(folder, what)
    with lock:
        _sign(lock, folder)
        try:
            yield
        finally:
            if not has_locks:
                (folder / "lock").unlink(missing_ok=True)


def _sign(lock: BinaryIO, folder: Path) -> None:
    """Write who holds the lock, without a buffer, so that a full disk is noticed here."""
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


def find_holder(folder: Path) -> str:
    """Return the process that holds a folder, `process 17 on host`; empty if none does."""
    try:
        with open_regular(folder / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read_holder(lock)
            except OSError as error:
                holder = _read_holder(lock)
                return holder if error.errno in NO_LOCKS and not _is_dead(holder) else ""
    except (OSError, CacheError):
        pass
    return ""


def _acquire(folder: Path, what: str) -> tuple[BinaryIO, bool]:
    """Return the open lock file, locked, and whether the disk has locks at all.

    If another process finishes and removes the folder in between, make it again.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lock = open_regular(folder / "lock", os.O_RDWR | os.O_CREAT)
            try:
                has_locks = _try_lock(lock, folder, what)
                if _is_current(lock, folder):
                    return lock, has_locks
            except BaseException:
                lock.close()
                raise
            lock.close()


def _is_current(lock: BinaryIO, folder: Path) -> bool:
    """Return whether the open file is still the folder's lock."""
    return os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat())


def _try_lock(lock: BinaryIO, folder: Path, what: str) -> bool:
    """Lock the file or raise; return whether the disk has locks at all."""
    for is_last in (*[False] * TRIES, True):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if is_last:
                raise CacheError(f"{what} is being made by {_read_holder(lock)}; wait for it") from None
            time.sleep(SECONDS_BETWEEN_TRIES)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            break
    holder = _read_holder(lock)
    if holder and not _is_dead(holder):
        raise CacheError(
            f"{what} is being made by {holder}, as {folder / 'lock'} says (this disk has no locks); wait for it, or "
            "remove that file if the process is gone"
        )
    return False


def _read_holder(lock: BinaryIO) -> str:
    """Return the text in the lock file, safe to show: it may hold anything."""
    text = os.pread(lock.fileno(), MAX_HOLDER_BYTES, 0).decode(errors="replace")
    return to_printable(text.strip())


def _is_dead(holder: str) -> bool:
    """Return whether the holder was a process of this machine, and has ended."""
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
