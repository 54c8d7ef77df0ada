"""Which files this user's tfl wrote, and the examination of all others in a process that may die of them.

libhdf5 can loop or crash on a malformed file. What a file from a stranger does, it does in a child process with little
memory and time; only a file that the child has read to its end is opened here. A file that tfl wrote, and that has
not changed since, is opened at once.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from tfl import assets

SECONDS = 60.0  # that any file may take, and then those that its size allows
BYTES_PER_SECOND = 10_000_000


class Stamp(NamedTuple):
    """What a file was when it was written or examined: when it changes, so does one of these."""

    device: int
    inode: int
    num_bytes: int
    modified: int
    """Nanoseconds."""

    @classmethod
    def of(cls, state: os.stat_result) -> Self:
        """The stamp of a file, from its `stat`."""
        return cls(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


def remember(path: Path, stamp: Stamp | None = None, is_own: bool = False) -> None:
    """Note that a file has been examined, as it was then, or is of this user's tfl's own making.

    Args:
      stamp: taken before the examination; a file that has changed since is not noted.
    """
    with suppress(OSError, ValueError):  # on a machine where nothing can be noted, files are examined each time
        now = Stamp.of(path.stat())
        if stamp in (None, now) and (is_own or not is_known_as(now)):
            _known().mkdir(parents=True, exist_ok=True)
            word = b"own" if is_own else b"examined"
            _note(now).write_bytes(b"%s %s\n%s" % (word, _text(now), os.fsencode(path.resolve())))
            _forget_what_is_gone()


def is_known(path: Path) -> bool:
    """Whether `remember` was called for this file as it is now."""
    return is_known_as(Stamp.of(path.stat()))


def is_own(path: Path) -> bool:
    """Whether this user's tfl wrote this file as it is now."""
    return _word(Stamp.of(path.stat())) == "own"


def is_known_as(stamp: Stamp) -> bool:
    """Whether `remember` was called for a file that was this."""
    return bool(_word(stamp))


def _word(stamp: Stamp) -> str:
    try:
        word, _, rest = _note(stamp).read_bytes().partition(b"\n")[0].partition(b" ")
    except OSError:
        return ""
    return word.decode(errors="replace") if rest == _text(stamp) else ""


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
    command = [sys.executable, "-P", "-m", "tfl.examine", kind, str(path.resolve()), str(seconds)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])),
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


def _forget_what_is_gone() -> None:
    for note in _known().iterdir():
        with suppress(OSError, ValueError):
            if not Path(os.fsdecode(note.read_bytes().partition(b"\n")[2])).exists():
                note.unlink()


def _known() -> Path:
    return assets.home() / "known"


def _note(stamp: Stamp) -> Path:
    return _known() / f"{stamp.device:x}-{stamp.inode:x}"


def _text(stamp: Stamp) -> bytes:
    return f"{stamp.num_bytes} {stamp.modified}".encode()
