"""Trust in files: those that this user's tfl wrote are opened, all others examined first.

libhdf5 can loop or crash on a malformed file. A file from a stranger is therefore read to its end
in a child process with little memory and time, and opened here only if the child survives. A file
that tfl wrote, and that has not changed since, is opened at once. What is known of a file is kept
in a note in tfl's home folder.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from tfl.files import hashing, user_folders
from tfl.machine.child import run_child

SECONDS = 60.0  # that the child may take for any file, plus the seconds that the file's size allows
BYTES_PER_SECOND = 10_000_000
SECONDS_KEPT = 90 * 86_400.0  # how long the note of an own file is kept when the file is not at its path
OWN = "own"
EXAMINED = "examined"


class FileState(NamedTuple):
    """State of a file on the disk; whenever the file changes, so does one of these."""

    device: int
    inode: int
    num_bytes: int
    modified: int
    """Nanoseconds."""
    changed: int
    """Nanoseconds; of the inode. No program can set it: a new file in an old inode has another."""

    @classmethod
    def from_stat(cls, state: os.stat_result) -> Self:
        """Return the state of a file from its `stat`."""
        return cls(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)

    @classmethod
    def from_path(cls, path: Path) -> Self:
        """Return the state of a file as it is now."""
        return cls.from_stat(path.stat())

    def is_same_but_renamed(self, other: "FileState") -> bool:
        """Return whether at most `changed` differs, as after a rename or a change of mode."""
        return self[:-1] == other[:-1]


class _Note(NamedTuple):
    """Note on a file, kept in a small file of its own."""

    word: str
    """OWN or EXAMINED."""
    state: FileState
    digest: str
    """The sha256 of an own file: it is recognised when only its name or mode has changed."""
    path: Path

    def to_bytes(self) -> bytes:
        numbers = f"{self.state.num_bytes} {self.state.modified} {self.state.changed}"
        return f"{self.word} {numbers} {self.digest or '-'}\n".encode() + os.fsencode(self.path)

    @classmethod
    def from_bytes(cls, content: bytes, file: FileState) -> Self:
        """Read the note on the file with the device and inode of `file`.

        Raises:
          ValueError: it is no note, or was written before notes had `changed`: then the inode may
            be another file's.
        """
        line, _, path = content.partition(b"\n")
        word, num_bytes, modified, changed, digest = line.decode().split(" ")
        state = FileState(file.device, file.inode, int(num_bytes), int(modified), int(changed))
        return cls(word, state, digest, Path(os.fsdecode(path)))


def mark_examined(path: Path, state: FileState | None = None) -> None:
    """Note that a file has been examined; an own file stays own.

    Where nothing can be noted, files are examined each time.

    Args:
      state: taken before the examination; a file that has changed since is not noted.
    """
    with suppress(OSError, ValueError):
        now = FileState.from_path(path)
        if state in (None, now) and not is_trusted(path):
            _write(_Note(EXAMINED, now, "", path.resolve()))


def mark_own(path: Path) -> None:
    """Note that this user's tfl has written a file.

    Renaming a file changes its `FileState`: mark it under its last name, or see
    `rename_and_mark_own`.
    """
    with suppress(OSError, ValueError):
        before = FileState.from_path(path)
        digest = hashing.hash_file(path)
        if FileState.from_path(path) == before:
            _write(_Note(OWN, before, digest, path.resolve()))


def rename_and_mark_own(unfinished: Path, path: Path) -> None:
    """Rename a file that tfl has just written, and mark it as own, even if killed in between.

    Raises:
      OSError: it cannot be renamed.
    """
    mark_own(unfinished)
    written = FileState.from_path(unfinished)
    digests = [note.digest for note in _notes_on(written) if note.state == written]
    unfinished.replace(path)
    with suppress(OSError):
        now = FileState.from_path(path)
        if any(digests) and now.is_same_but_renamed(written):
            _write(_Note(OWN, now, digests[0], path.resolve()))


def is_trusted(path: Path) -> bool:
    """Return whether this file, as it is now, is own or has been examined."""
    return bool(_word_on(path))


def is_own(path: Path) -> bool:
    """Return whether this user's tfl wrote this file as it is now."""
    return _word_on(path) == OWN


def is_trusted_state(state: FileState) -> bool:
    """Return whether a file was own or examined when it had this state."""
    return any(note.state == state for note in _notes_on(state))


def _word_on(path: Path) -> str:
    """Return OWN, EXAMINED or nothing; note a moved own file again under its new name."""
    state = FileState.from_path(path)
    for note in _notes_on(state):
        if note.state == state and note.path == path.resolve():
            return note.word
        if note.state == state or _is_moved_own_file(note, path, state):
            with suppress(OSError):
                _write(note._replace(state=state, path=path.resolve()))
            return note.word
    return ""


def _is_moved_own_file(note: _Note, path: Path, state: FileState) -> bool:
    """Return whether a file still is, byte for byte, the own file that the note is on."""
    if note.word != OWN or not note.state.is_same_but_renamed(state):
        return False
    with suppress(ValueError):  # a file that cannot be read is not recognised
        return hashing.hash_file(path) == note.digest and FileState.from_path(path) == state
    return False


def _notes_on(state: FileState) -> Iterator[_Note]:
    """Yield the notes on whatever file had this device and inode, from every folder of notes."""
    for folder in _folders():
        with suppress(OSError, ValueError):
            yield _Note.from_bytes((folder / _name(state)).read_bytes(), state)


def _write(note: _Note) -> None:
    """Write a note to the first folder that takes it.

    Raises:
      OSError: none does.
    """
    usual = _notes_folder()
    try:
        _write_into(usual, note)
    except OSError as error:
        instead = user_folders.make_temporary_home() / usual.name
        user_folders.warn_replaced(usual, instead, error.strerror or str(error))
        _write_into(instead, note)


def _write_into(folder: Path, note: _Note) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _name(note.state)).write_bytes(note.to_bytes())
    _forget_what_is_gone(folder)


def examine(kind: str, path: Path) -> list[str]:
    """Find the problems of a file; if there are none, note that it has been examined."""
    state = FileState.from_path(path)
    problems = find_problems(kind, path)
    if not problems:
        mark_examined(path, state)
    return problems


def find_problems(kind: str, path: Path) -> list[str]:
    """Read a file to its end in a limited process and return what is wrong with it; empty if nothing.

    Args:
      kind: `cache`, or `weights` for any other HDF5 file.
    """
    seconds = SECONDS + path.stat().st_size / BYTES_PER_SECOND
    arguments = [kind, str(path.resolve()), str(seconds)]
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # each thread maps memory, which is what is limited
    try:
        child = run_child("tfl.cache.examine", arguments, one_thread, seconds)
    except TimeoutError:
        return [f"HDF5 had not read it to its end after {seconds:.0f} s"]
    try:
        return list(json.loads(child.stdout)["problems"])
    except (ValueError, KeyError):
        reason = (child.stderr or [f"exit code {child.exit_code}"])[-1]
        return [f"the process that examined it died: {reason[:300]}"]


def _forget_what_is_gone(folder: Path) -> None:
    """Remove notes on files that are gone; on own files only later: they may have been moved."""
    for path in folder.iterdir():
        with suppress(OSError, ValueError):
            content = path.read_bytes()
            is_old = time.time() - path.stat().st_mtime > SECONDS_KEPT
            is_on_own_file = content.startswith(b"own ")
            noted_path = Path(os.fsdecode(content.partition(b"\n")[2]))
            if not noted_path.exists() and (is_old or not is_on_own_file):
                path.unlink()


def _notes_folder() -> Path:
    return user_folders.home_folder() / "known"


def _folders() -> Iterator[Path]:
    """Yield the folders where notes may be."""
    usual = _notes_folder()
    yield usual
    temporary_home = user_folders.find_temporary_home()
    if temporary_home is not None:
        yield temporary_home / usual.name


def _name(state: FileState) -> str:
    """Return the name of the note on the file with this device and inode."""
    return f"{state.device:x}-{state.inode:x}"
