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

from tfl import assets

SECONDS = 60.0  # that any file may take, and then those that its size allows
BYTES_PER_SECOND = 10_000_000


def remember(path: Path) -> None:
    """Note that a file is this user's own, or has been examined, as it is now."""
    with suppress(OSError):  # on a machine where nothing can be noted, files are examined each time
        _known().mkdir(parents=True, exist_ok=True)
        state = path.stat()
        _note(state).write_text(f"{_stamp(state)}\n{path.resolve()}")
        _forget_what_is_gone()


def is_known(path: Path) -> bool:
    """Whether `remember` was called for this file, and it has the same size and time of change as then."""
    try:
        state = path.stat()
        return _note(state).read_text().partition("\n")[0] == _stamp(state)
    except (OSError, ValueError):
        return False


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
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=seconds)
    except subprocess.TimeoutExpired:
        return [f"HDF5 had not read it to its end after {seconds:.0f} s"]
    try:
        return list(json.loads(done.stdout)["problems"])
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [f"the process that examined it died: {reason[:300]}"]


def _forget_what_is_gone() -> None:
    for note in _known().iterdir():
        with suppress(OSError):
            if not Path(note.read_text().partition("\n")[2]).exists():
                note.unlink()


def _known() -> Path:
    return assets.home() / "known"


def _note(state: os.stat_result) -> Path:
    return _known() / f"{state.st_dev:x}-{state.st_ino:x}"


def _stamp(state: os.stat_result) -> str:
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
