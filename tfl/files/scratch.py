"""Scratch folders: removed when the work ends, or by the next command if the process was killed.

A process holds a lock on its scratch folder for as long as it lives. A folder whose lock nobody
holds was left by a process that was killed.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

_NAME = re.compile(r"\.tfl-scratch-[0-9a-f]{32}")
_redirected_from: list[str] = []
"""The system's folder for temporary files, while `redirect_temporary_files` puts them elsewhere."""


def temporary_folder() -> Path:
    """Return the system's folder for temporary files.

    Raises:
      OSError: no such folder can be written to.
    """
    return Path(_redirected_from[0] if _redirected_from else tempfile.gettempdir())


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder, yield it, and remove it with all its contents at the end.

    Args:
      parent: an existing folder; the system's folder for temporary files if None.

    Raises:
      OSError: the folder cannot be made.
    """
    place = temporary_folder() if parent is None else parent
    remove_abandoned(place)
    folder, lock = _make(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def redirect_temporary_files() -> Iterator[None]:
    """Make libraries and child processes write their temporary files to a scratch folder.

    Keras writes such files when it saves a model, TensorFlow and tf2onnx when they convert one; a
    killed process would leave them for ever. Changes `tempfile.tempdir` and the variable TMPDIR of
    this process until the context ends.
    """
    with scratch_folder() as folder:
        restore = _redirect(folder)
        try:
            yield
        finally:
            restore()


def _redirect(folder: Path) -> Callable[[], None]:
    """Make `folder` the folder for temporary files; return a function that undoes it."""
    place, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    _redirected_from.append(tempfile.gettempdir())
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)

    def restore() -> None:
        _redirected_from.pop()
        tempfile.tempdir = place
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable

    return restore


def remove_abandoned(parent: Path) -> None:
    """Remove the scratch folders in `parent` that killed processes of this user left there."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process holds or removes it, or this file system has no locks
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    """Make a folder and lock it; make another if it was removed before it was locked."""
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
    except OSError:  # a file system without locks: no folder there ever counts as abandoned
        pass
    return True
