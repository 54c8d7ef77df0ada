"""Which files this user's tfl wrote, and the examination of all others in a process that may die of them.

libhdf5 can loop or crash on a malformed file. What a file from a stranger does, it does in a child process with little
memory and time; only a file that the child has read to its end is opened here. A file that tfl wrote, and that has
not changed since, is opened at once.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from tfl.files import assets, user_folders

SECONDS = 60.0  # that any file may take, and then those that its size allows
BYTES_PER_SECOND = 10_000_000
SECONDS_KEPT = 90 * 86_400.0  # that a note is kept of an own file that is not where it was


class Stamp(NamedTuple):
    """What a file was when it was written or examined: when it changes, so does one of these."""

    device: int
    inode: int
    num_bytes: int
    modified: int
    """Nanoseconds."""
    changed: int
    """Nanoseconds; of the inode. No program can set it: a new file that reuses an old one's inode has another."""

    @classmethod
    def of(cls, state: os.stat_result) -> Self:
        """The stamp of a file, from its `stat`."""
        return cls(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


class _Note(NamedTuple):
    """What is written down of a file."""

    word: str
    stamp: Stamp
    digest: str
    """The sha256 of the content of an own file: it is known again when only its name or its mode has changed."""
    path: Path

    def to_bytes(self) -> bytes:
        numbers = f"{self.stamp.num_bytes} {self.stamp.modified} {self.stamp.changed}"
        return f"{self.word} {numbers} {self.digest or '-'}\n".encode() + os.fsencode(self.path)

    @classmethod
    def from_bytes(cls, content: bytes, place: Stamp) -> Self:
        """Read a note of the file with the device and inode of `place`.

        Raises:
          ValueError: it is none, or was written before notes had `changed`: then the inode may be another file's.
        """
        line, _, path = content.partition(b"\n")
        word, num_bytes, modified, changed, digest = line.decode().split(" ")
        stamp = Stamp(place.device, place.inode, int(num_bytes), int(modified), int(changed))
        return cls(word, stamp, digest, Path(os.fsdecode(path)))


def remember(path: Path, stamp: Stamp | None = None, is_own: bool = False) -> None:
    """Note that a file has been examined, as it was then, or is of this user's tfl's own making.

    Renaming a file changes its `Stamp`, so a file is noted again after it got its name. Where nothing can be noted,
    files are examined each time.

    Args:
      stamp: taken before the examination; a file that has changed since is not noted.
    """
    with suppress(OSError, ValueError):
        now = Stamp.of(path.stat())
        if stamp in (None, now) and (is_own or not is_known(path)):
            digest = assets.sha256_of(path) if is_own else ""
            if Stamp.of(path.stat()) == now:
                _write(_Note("own" if is_own else "examined", now, digest, path.resolve()))


def rename_own(unfinished: Path, path: Path) -> None:
    """Give a file that tfl has just written its name, and note it as own; it is so too after a kill in between.

    Raises:
      OSError: it cannot be renamed.
    """
    remember(unfinished, is_own=True)
    written = Stamp.of(unfinished.stat())
    digest = next((note.digest for note in _notes(written) if note.stamp == written), "")
    unfinished.replace(path)
    with suppress(OSError):
        now = Stamp.of(path.stat())
        if digest and now[:-1] == written[:-1]:
            _write(_Note("own", now, digest, path.resolve()))


def is_known(path: Path) -> bool:
    """Whether `remember` was called for this file as it is now."""
    return bool(_word(path))


def is_own(path: Path) -> bool:
    """Whether this user's tfl wrote this file as it is now."""
    return _word(path) == "own"


def is_known_as(stamp: Stamp) -> bool:
    """Whether `remember` was called for a file that was this."""
    return any(note.stamp == stamp for note in _notes(stamp))


def _word(path: Path) -> str:
    """`own`, `examined`, or nothing. An own file that was moved since is noted anew, under its new name."""
    stamp = Stamp.of(path.stat())
    for note in _notes(stamp):
        if note.stamp == stamp and note.path == path.resolve():
            return note.word
        if note.stamp == stamp or _has_same_content(note, path, stamp):
            with suppress(OSError):
                _write(note._replace(stamp=stamp, path=path.resolve()))
            return note.word
    return ""


def _has_same_content(note: _Note, path: Path, stamp: Stamp) -> bool:
    """Whether a file that is not as it was noted still is, byte for byte, the own one that the note is of."""
    if note.word != "own" or note.stamp[:-1] != stamp[:-1]:
        return False
    return assets.sha256_of(path) == note.digest and Stamp.of(path.stat()) == stamp


def _notes(stamp: Stamp) -> Iterator[_Note]:
    """The notes of whatever file had this device and inode, from every place where there may be some."""
    for folder in _folders():
        with suppress(OSError, ValueError):
            yield _Note.from_bytes((folder / _name(stamp)).read_bytes(), stamp)


def _write(note: _Note) -> None:
    """Write a note to the first place that takes it.

    Raises:
      OSError: none does.
    """
    usual = _known()
    try:
        _write_into(usual, note)
    except OSError as error:
        instead = user_folders.temporary_home() / usual.name
        user_folders.warn_replaced(usual, instead, error.strerror or str(error))
        _write_into(instead, note)


def _write_into(folder: Path, note: _Note) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _name(note.stamp)).write_bytes(note.to_bytes())
    _forget_what_is_gone(folder)


def examine(kind: str, path: Path) -> list[str]:
    """`problems_of` a file, which is noted if there are none and it has not changed meanwhile."""
    stamp = Stamp.of(path.stat())
    found = problems_of(kind, path)
    if not found:
        remember(path, stamp)
    return found


def problems_of(kind: str, path: Path) -> list[str]:
    """What is wrong with a file, found by reading it to its end in a limited process; empty if nothing.

    Args:
      kind: `cache`, or `weights` for any other HDF5 file.
    """
    seconds = SECONDS + path.stat().st_size / BYTES_PER_SECOND
    command = [sys.executable, "-P", "-m", "tfl.cache.examine", kind, str(path.resolve()), str(seconds)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])),
        "OPENBLAS_NUM_THREADS": "1",  # each thread maps memory, which is what is limited
    }
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=environment,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return [f"HDF5 had not read it to its end after {seconds:.0f} s"]
    try:
        return list(json.loads(done.stdout)["problems"])
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [f"the process that examined it died: {reason[:300]}"]


def _forget_what_is_gone(folder: Path) -> None:
    """Remove the notes of files that are gone; of own ones later, for they may only have been moved."""
    for path in folder.iterdir():
        with suppress(OSError, ValueError):
            content = path.read_bytes()
            is_old = time.time() - path.stat().st_mtime > SECONDS_KEPT
            is_gone = not Path(os.fsdecode(content.partition(b"\n")[2])).exists()
            if is_gone and (is_old or not content.startswith(b"own ")):
                path.unlink()


def _known() -> Path:
    return user_folders.home_folder() / "known"


def _folders() -> Iterator[Path]:
    """Where notes may be."""
    usual = _known()
    yield usual
    other = user_folders.existing_temporary_home()
    if other is not None:
        yield other / usual.name


def _name(stamp: Stamp) -> str:
    """The name of the note of the file with this device and inode."""
    return f"{stamp.device:x}-{stamp.inode:x}"
