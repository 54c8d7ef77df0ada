"""Programs that take turns on one machine: each in a process of its own, one at work while the others wait.

So both sides of a ratio are measured in one run, a batch of the one after a batch of the other, and memory is known of
each. A program says at the end of every turn what it did; the seconds are its own, from being told to go on until then.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from tfl.errors import CompareError

PACKAGE_FOLDER = Path(__file__).parents[2]
MAX_SHOWN = 2000  # characters of what a program that failed wrote


class Turn(NamedTuple):
    """What a program did in one turn.

    Attributes:
      found: whatever else it says, in JSON's types.
    """

    stage: str
    num_images: int
    seconds: float
    peak_bytes: int
    found: dict[str, Any]


class Turns:
    """The side of the program: it works, ends its turn, and waits for the next; the first begins by itself."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print is no turn
        self._started = time.perf_counter()

    def end(self, stage: str, num_images: int = 0, **found: Any) -> None:
        """Say what was done since the last turn, and wait.

        Raises:
          SystemExit: nobody wants another turn.
        """
        turn = Turn(stage, num_images, time.perf_counter() - self._started, _peak_bytes(), found)
        print(json.dumps(turn), file=self._out, flush=True)
        if not sys.stdin.readline():
            sys.exit()
        self._started = time.perf_counter()


class Player:
    """The other side: a program that is given its turns; a context that ends it."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        """Start `python -m module`, which begins its first turn."""
        self._name = f"{module} {' '.join(arguments)}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in __exit__
        path = os.pathsep.join(filter(None, [str(PACKAGE_FOLDER), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
        )
        self._is_waiting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if raised[0] is not None:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def turn(self) -> Turn:
        """Let it go on, and wait until its turn has ended.

        Raises:
          CompareError: it failed, or has no further turn.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._is_waiting:
            with contextlib.suppress(BrokenPipeError):  # it is dead: what it said is told below
                self._process.stdin.write("\n")
                self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")[-MAX_SHOWN:]
            raise CompareError(f"{self._name} ended with exit code {self._process.wait()}:", *said.splitlines())
        self._is_waiting = True
        return Turn(*json.loads(line))


def _peak_bytes() -> int:
    """The largest resident size of this process; 0 where the system does not say.

    Not `ru_maxrss`: in a process that was started by a larger one, Linux gives the larger one's there.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
