"""The standard streams: usable whatever the process was started with, and quiet while libraries start."""

import contextlib
import errno
import io
import locale
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tfl.cli.output import print_notes
from tfl.errors import TflError

STDIN, STDOUT, STDERR = 0, 1, 2  # file descriptors
IS_DEBUGGING = bool(os.environ.get("TFL_DEBUG"))  # then tracebacks and all that libraries say are shown


class _Output(io.RawIOBase):
    """A file descriptor to write to. A failed write is noted, and the command goes on without that output.

    Args:
      error: of a stream that cannot be written from the start.
      is_needed: whether the command ends when nobody reads this stream any more.
    """

    def __init__(self, number: int, error: OSError | None, is_needed: bool) -> None:
        self.error = error
        self.is_read = True
        self.has_lost = False
        self._number = number
        self._is_needed = is_needed

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.error is None and os.isatty(self._number)

    def fileno(self) -> int:
        return self._number

    def write(self, data: Any) -> int:
        """Write all of `data`, or drop it.

        Raises:
          BrokenPipeError: nobody reads any more; raised once.
        """
        rest = memoryview(data).cast("B")
        num_bytes = len(rest)
        try:
            while self.error is None and self.is_read and rest:
                rest = rest[os.write(self._number, rest) :]
        except BrokenPipeError:
            self.is_read = False
            if self._is_needed:
                raise
        except OSError as error:
            self.error = error
        self.has_lost = self.has_lost or bool(self.error and rest)
        return num_bytes


@contextlib.contextmanager
def open_standard_streams() -> Iterator[_Output]:
    """Make stdin, stdout and stderr usable, whatever this process was started with, and yield what stdout writes to.

    A closed one is opened on the null device first of all: else the next file that is opened would get its number, and
    libraries and child processes would write their messages into that file. What an encoding lacks is written in
    backslash escapes. Streams that someone else has put into `sys` stay.
    """
    kept = sys.stdin, sys.stdout, sys.stderr
    for number in (STDIN, STDOUT, STDERR):
        _open_if_closed_error(number)
    output = _Output(STDOUT, _closed_error(sys.stdout), is_needed=True)
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 -- for the life of the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _open_text(output, kept[1])
    if sys.stderr is sys.__stderr__:
        sys.stderr = _open_text(_Output(STDERR, _closed_error(sys.stderr), is_needed=False), kept[2])
    try:
        yield output
    finally:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = kept


def restart_in_utf8() -> None:
    """Start this process's program anew in Python's UTF-8 mode, where the locale is of another encoding.

    TensorFlow, OpenVINO and others take every name for UTF-8, whatever the locale says: a folder called `café` would be
    two. What is shown stays in the locale's encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode:
        return
    shown = sys.stdout.encoding if sys.stdout else locale.getencoding()
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": f"{shown}:backslashreplace"}
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)


def _open_if_closed_error(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number)
        os.set_inheritable(number, True)
        if null != number:
            os.close(null)


def _closed_error(stream: TextIO | None) -> OSError | None:
    """Return the error of writing to a stream that was closed when Python started."""
    return OSError(errno.EBADF, os.strerror(errno.EBADF)) if stream is None else None


def _open_text(output: _Output, before: TextIO | None) -> TextIO:
    encoding = "utf-8" if before is None else before.encoding
    buffer = io.BufferedWriter(output)
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)


@contextlib.contextmanager
def hold_stderr() -> Iterator[None]:
    """Hold back what libraries write to file descriptor 2 as they start, unless they fail.

    `TF_CPP_MIN_LOG_LEVEL` alone leaves lines that TensorFlow's C++ writes before it reads its settings.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(STDERR)
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        except BaseException as error:
            _release(stderr)
            if IS_DEBUGGING or not isinstance(error, TflError):  # whose message says it all
                held.seek(0)
                print_notes(*held.read().decode(errors="backslashreplace").splitlines())
            raise
        else:
            _release(stderr)


def _release(stderr: int) -> None:
    sys.stderr.flush()
    os.dup2(stderr, STDERR)
    os.close(stderr)
