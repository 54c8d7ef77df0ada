"""Programs that run in lockstep on one machine: each in a process of its own, one working while the others wait.

So both sides of a ratio are measured in one session, a batch of one program after a batch of the
other, and the memory of each is known. A program reports at the end of every turn; a turn's seconds
are those in which the program worked.
"""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, TypedDict, Unpack

from tfl.errors import CompareError
from tfl.machine.child import ChildProcess, start_child


class Report(TypedDict, total=False):
    """Fields of `Turn` that a program may report."""

    way: str
    device: str
    losses: list[float]
    correct: dict[str, int]


@dataclass(frozen=True)
class Turn:
    """One turn of a program.

    Attributes:
      stage: the work that was done: `start-up`, `extract`, `train`, ...
      num_images: images that it was done with.
      peak_bytes: the largest resident size of the program so far; 0 where the system does not tell.
      way: how the reference ran its forward pass.
      device: where the reference computed.
      losses: mean loss of each epoch of a training.
      correct: how many test images were classified correctly, by the rows trained on.
    """

    stage: str
    num_images: int
    seconds: float
    peak_bytes: int
    way: str = ""
    device: str = ""
    losses: list[float] = field(default_factory=list)
    correct: dict[str, int] = field(default_factory=dict)


class TurnTaker:
    """The program's own side: it works, ends its turn and waits; its first turn begins at once."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print is no report
        self._started = time.perf_counter()

    def end_turn(self, stage: str, num_images: int = 0, **report: Unpack[Report]) -> None:
        """Report what was done since the last turn, and wait for the next.

        Raises:
          SystemExit: no further turn is wanted.
        """
        seconds = time.perf_counter() - self._started
        turn = Turn(stage, num_images, seconds, _peak_bytes(), **report)
        print(json.dumps(asdict(turn)), file=self._out, flush=True)
        if not sys.stdin.readline():
            sys.exit()
        self._started = time.perf_counter()


class ChildProgram:
    """The parent's side: a program in a child process that is given its turns; a context that ends it."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        """Start `python -m module`, which begins its first turn."""
        self._name = f"{module} {' '.join(arguments)}"
        self._child: ChildProcess = start_child(module, arguments)
        self._is_waiting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._child.__exit__(*raised)

    def take_turn(self) -> Turn:
        """Let the program go on, and wait until it has ended its turn.

        Raises:
          CompareError: it failed, or has no further turn.
        """
        if self._is_waiting:
            with contextlib.suppress(BrokenPipeError):  # it has died; its error is shown below
                self._child.stdin.write(b"\n")
                self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            code = self._child.wait()
            raise CompareError(f"{self._name} ended with exit code {code}:", *self._child.read_stderr())
        self._is_waiting = True
        return Turn(**json.loads(line))


def _peak_bytes() -> int:
    """Return the largest resident size of this process so far; 0 where the system does not tell.

    Not `ru_maxrss`: Linux hands it on from the parent to a process that it starts.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
