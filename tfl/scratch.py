"""Folders for work in progress. They go when the work ends, and the next command removes what a killed one left.

A process holds a lock on its scratch folder for as long as it lives. A folder of which nobody holds the lock was left
by a process that was killed.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"\.tfl-scratch-[0-9a-f]{32}")


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder, yield it, and remove it with all its contents at the end.

    Args:
      parent: an existing folder; the system's folder for temporary files if None.

    Raises:
      OSError: the folder cannot be made.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    remove_abandoned(place)
    folder, lock = _make(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the scratch folders in `parent` that killed processes of this user left there."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process holds or removes it, or this filesystem has no locks
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    """Make a folder and lock it; make another one if it was taken for an abandoned one between the two."""
    while True:
        folder = parent / f".tfl-scratch-{uuid.uuid4().hex}"
        folder.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if _hold(lock) and folder.exists():
                return folder, lock
            os.close(lock)


def _hold(lock: int) -> bool:
    """Lock an open folder; False if another process is about to remove it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a filesystem without locks: nothing there is ever taken for abandoned
        pass
    return True
