"""Folders that tfl and the libraries under it keep things in: the user's, or a private temporary one where it must be.

A container's user may have no home folder, and a home folder may be read-only or full.
"""

import contextlib
import functools
import logging
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from tfl.files.paths import expand_user_text
from tfl.files.scratch import temporary_folder

logger = logging.getLogger(__name__)
_PROVIDED = "TFL_PROVIDED_HOME"  # in the environment, for the processes that this one starts


def expand_home(path: str | Path) -> Path:
    """Return the path with `~` and `~name` replaced by a home folder, unchanged where there is no such folder.

    (`Path.expanduser` raises RuntimeError instead: a container's user may have no name and no home.)
    """
    return Path(expand_user_text(str(path)))


def has_home(path: str | Path) -> bool:
    """Return whether `expand_home` found the home folder that the path begins with, if it begins with one."""
    return not str(expand_home(path)).startswith("~")


def home_folder() -> Path:
    """Return where tfl keeps what it fetched: `TFL_HOME`, or `tfl` in the user's cache folder.

    A user without a home folder, such as a container's `--user 12345`, gets a private temporary folder instead. Never
    raises. The folder may not be there, and may not be writable: see `writable`.
    """
    chosen, cache = os.environ.get("TFL_HOME"), os.environ.get("XDG_CACHE_HOME")
    if chosen and has_home(chosen):
        return expand_home(chosen)
    if cache and has_home(cache):
        return expand_home(cache) / "tfl"
    own = expand_home("~")
    if not has_home("~") or own == _provided_home():
        own = temporary_home()
        _say(f"user {os.geteuid()} has no home folder: {own} is used instead; set TFL_HOME to choose another place")
    return own / ".cache" / "tfl"


def provide_home() -> None:
    """Give this process a home folder if it has none, before it imports libraries that would make one called `~`.

    Keras 3.15 and TFDS 4.9 do that. Where the home folder cannot be written to, Matplotlib is given another place,
    which it would ask for in three lines at every start.
    """
    if not has_home("~"):
        os.environ["HOME"] = os.environ[_PROVIDED] = str(temporary_home())
    elif not os.access(expand_home("~"), os.W_OK) and "XDG_CONFIG_HOME" not in os.environ:
        os.environ.setdefault("MPLCONFIGDIR", str(temporary_home() / "matplotlib"))


def _provided_home() -> Path | None:
    """What `provide_home` gave this process, or the one that started it."""
    return Path(os.environ[_PROVIDED]) if _PROVIDED in os.environ else None


def find_file(path: Path) -> Path:
    """Return the file `path` of `home()`, or where that is not there, of an earlier command's `temporary_home()`."""
    kept, instead = home_folder() / path, existing_temporary_home()
    return instead / path if instead is not None and not kept.exists() and (instead / path).exists() else kept


def writable_folder(name: str) -> Path:
    """Return the folder `name` in `home()`; where nothing can be written there, the one in `temporary_home()`.

    The folder is made if possible.
    """
    reason = _reason_against(home_folder() / name)
    if not reason:
        return home_folder() / name
    folder = temporary_home() / name
    warn_replaced(home_folder() / name, folder, reason)
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
    return folder


def warn_replaced(folder: Path, instead: Path, reason: str) -> None:
    """Say, once in a process, that a folder cannot be written to, and which one is used instead."""
    if folder != instead:
        _say(f"{folder} cannot be written to ({reason}): {instead} is used instead; set TFL_HOME to choose another")


def _reason_against(folder: Path) -> str:
    """Write a small file into a folder, which may be read-only or full; return what the system says against it."""
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(4096))
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return ""


def temporary_home() -> Path:
    """Return this user's private folder among the temporary files, which is made if possible: `/tmp/tfl-<uid>`.

    Any user may have put something else there under that name: then the folder has a number more.
    """
    names = list(_temporary_homes())
    for folder in names:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
        if _is_private(folder):
            return folder
    return names[0]  # whoever writes there is told why it cannot be


def existing_temporary_home() -> Path | None:
    """Return `temporary_home()` if an earlier command has made it."""
    return next(filter(_is_private, _temporary_homes()), None)


def _temporary_homes() -> Iterator[Path]:
    try:
        place = temporary_folder()
    except OSError:  # no folder for temporary files can be written to
        place = Path("/tmp")
    for ending in ("", *(f"-{number}" for number in range(1, 100))):
        yield place / f"tfl-{os.geteuid()}{ending}"


def _is_private(folder: Path) -> bool:
    """Whether it is a folder, no link to one, that belongs to this user and that no other can write to."""
    try:
        state = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o022


@functools.cache
def _say(message: str) -> None:
    """Warn once in a process."""
    logger.warning("%s", message)
