"""Child processes: every one that runs Python is started here, with one kind of command and environment.

A child runs a module of tfl (by its dotted name), or a Python file that needs nothing of tfl (by
its path). Its standard error goes to a temporary file: a pipe that nobody reads would block the
child once it is full.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

PACKAGE_FOLDER = Path(__file__).parents[2]
MAX_STDERR_BYTES = 2000  # of a child's standard error that its error shows: the last ones
NO_VARIABLES: Mapping[str, str] = {}

Program = str | Path
"""A module of tfl by its dotted name, or a Python file by its path."""


class ChildProcess:
    """A running child process, as a context that ends it.

    Leaving the context closes the child's standard input and waits for its end; after an exception
    it is killed.

    Attributes:
      stdin: the binary pipe to its standard input.
      stdout: the binary pipe from its standard output.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", stderr: BinaryIO) -> None:
        self._process = process
        self._stderr = stderr
        self.stdin = cast(BinaryIO, process.stdin)
        self.stdout = cast(BinaryIO, process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if raised[0] is not None:
            self.kill()
        self.wait()
        self.stdout.close()
        self._stderr.close()

    def wait(self) -> int:
        """Close its standard input, wait for its end and return its exit code."""
        with contextlib.suppress(BrokenPipeError):  # it has died; its exit code tells
            self.stdin.close()
        return self._process.wait()

    def read_stdout(self, seconds: float | None = None) -> str:
        """Wait for its end and return its standard output as text.

        Raises:
          TimeoutError: it had not ended after `seconds`; it has been killed.
        """
        try:
            content, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise TimeoutError(f"the process had not ended after {seconds} s") from error
        return content.decode(errors="replace")

    def read_stderr(self) -> list[str]:
        """Return the last lines of its standard error so far."""
        num_bytes = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, num_bytes - MAX_STDERR_BYTES))
        return self._stderr.read().decode(errors="replace").strip().splitlines()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


@dataclass(frozen=True)
class FinishedChild:
    """A child process that has ended.

    Attributes:
      stdout: its whole standard output.
      stderr: the last lines of its standard error.
    """

    exit_code: int
    stdout: str
    stderr: list[str]


def start_child(
    program: Program, arguments: Sequence[str] = (), environment: Mapping[str, str] = NO_VARIABLES
) -> ChildProcess:
    """Start a child process with this Python.

    Args:
      environment: variables of the child beyond those of this process.
    """
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by ChildProcess
    process = subprocess.Popen(
        _build_command(program, arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=_build_environment(program, environment),
    )
    return ChildProcess(process, cast(BinaryIO, stderr))


def run_child(
    program: Program,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] = NO_VARIABLES,
    seconds: float | None = None,
) -> FinishedChild:
    """Run a child process to its end, with nothing on its standard input.

    Raises:
      TimeoutError: it had not ended after `seconds`; it has been killed.
    """
    with start_child(program, arguments, environment) as child:
        stdout = child.read_stdout(seconds)
        return FinishedChild(child.wait(), stdout, child.read_stderr())


def _build_command(program: Program, arguments: Sequence[str]) -> list[str]:
    """Return the command; `-P` keeps the working folder out of the places that Python imports from."""
    target = [os.fspath(program)] if isinstance(program, Path) else ["-m", program]
    return [sys.executable, "-P", *target, *arguments]


def _build_environment(program: Program, variables: Mapping[str, str]) -> dict[str, str]:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **variables}
    if not isinstance(program, Path):
        folders = [str(PACKAGE_FOLDER), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    return environment
