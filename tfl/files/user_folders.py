"""Folders of tfl and its libraries: in the user's home, or in a private temporary folder.

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
    """Return the path with `~` or `~name` replaced by a home folder, if there is one.

    (`Path.expanduser` raises RuntimeError instead: a container's user may have no name and no
    home.)
    """
    return Path(expand_user_text(str(path)))


def has_home(path: str | Path) -> bool:
    """Return whether the home folder that the path begins with is known, if it begins with one."""
    return not str(expand_home(path)).startswith("~")


def home_folder() -> Path:
    """Return where tfl keeps what it fetched: `TFL_HOME`, or `tfl` in the user's cache folder.

    A user without a home folder, such as a container's `--user 12345`, gets a private temporary
    folder instead. Never raises. The folder may not exist, and may not be writable: see
    `writable_folder`.
    """
    chosen, cache = os.environ.get("TFL_HOME"), os.environ.get("XDG_CACHE_HOME")
    if chosen and has_home(chosen):
        return expand_home(chosen)
    if cache and has_home(cache):
        return expand_home(cache) / "tfl"
    own = expand_home("~")
    if not has_home("~") or own == _provided_home():
        own = make_temporary_home()
        _warn_once(
            f"user {os.geteuid()} has no home folder: {own} is used instead; set TFL_HOME to choose another place"
        )
    return own / ".cache" / "tfl"


def provide_home() -> None:
    """Give this process a home folder if it has none, before libraries make one called `~`.

    Keras 3.15 and TFDS 4.9 make such a folder. If the home folder cannot be written to, Matplotlib
    gets another place; otherwise it would warn in three lines at every start.
    """
    if not has_home("~"):
        os.environ["HOME"] = os.environ[_PROVIDED] = str(make_temporary_home())
    elif not os.access(expand_home("~"), os.W_OK) and "XDG_CONFIG_HOME" not in os.environ:
        os.environ.setdefault("MPLCONFIGDIR", str(make_temporary_home() / "matplotlib"))


def _provided_home() -> Path | None:
    """Return the home folder that `provide_home` gave this process or its parent, if it did."""
    return Path(os.environ[_PROVIDED]) if _PROVIDED in os.environ else None


def find_file(path: Path) -> Path:
    """Return a file in `home_folder()`, or in an earlier command's temporary home if only there."""
    usual, temporary_home = home_folder() / path, find_temporary_home()
    if temporary_home is None or usual.exists():
        return usual
    other = temporary_home / path
    return other if other.exists() else usual


def writable_folder(name: str) -> Path:
    """Make a folder in `home_folder()`, or in a temporary home if that cannot be written to."""
    reason = _find_obstacle(home_folder() / name)
    if not reason:
        return home_folder() / name
    folder = make_temporary_home() / name
    warn_replaced(home_folder() / name, folder, reason)
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
    return folder


def warn_replaced(folder: Path, instead: Path, reason: str) -> None:
    """Warn once in a process that another folder is used because one cannot be written to."""
    if folder != instead:
        _warn_once(
            f"{folder} cannot be written to ({reason}): {instead} is used instead; set TFL_HOME to choose another"
        )


def _find_obstacle(folder: Path) -> str:
    """Try to write a small file into a folder; return why it cannot be written, or nothing."""
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


def make_temporary_home() -> Path:
    """Make, if possible, this user's private folder among temporary files: `/tmp/tfl-<uid>`.

    If another user has already taken that name, a number is added to it.
    """
    names = list(_temporary_homes())
    for folder in names:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
        if _is_private(folder):
            return folder
    return names[0]  # writing there fails, and the error says why


def find_temporary_home() -> Path | None:
    """Return the temporary home if an earlier command has made one."""
    return next(filter(_is_private, _temporary_homes()), None)


def _temporary_homes() -> Iterator[Path]:
    try:
        place = temporary_folder()
    except OSError:  # no folder for temporary files can be written to
        place = Path("/tmp")
    for ending in ("", *(f"-{number}" for number in range(1, 100))):
        yield place / f"tfl-{os.geteuid()}{ending}"


def _is_private(folder: Path) -> bool:
    """Return whether this is a folder, not a link, that only this user can write to."""
    try:
        state = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o022


@functools.cache
def _warn_once(message: str) -> None:
    """Warn once in a process."""
    logger.warning("%s", message)
