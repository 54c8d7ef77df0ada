"""What the commands read and write: results on stdout, messages, notes and progress on stderr.

Everything for people goes through `show`, `show_row` and `tell`, which escape what would steer a terminal. `show_json`
writes ASCII, and `show_path` the exact name of a file where a program reads it.
"""

import contextlib
import errno
import io
import json
import locale
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from tfl.errors import TflError
from tfl.reports import formatting
from tfl.text import to_printable

SECONDS_BETWEEN_LINES = 30.0  # of progress, where stderr is no terminal
STDIN, STDOUT, STDERR = 0, 1, 2  # file descriptors
COLOUR = re.compile(r"(\033\[[0-9;]*m)")
IS_DEBUGGING = bool(os.environ.get("TFL_DEBUG"))  # then tracebacks and all that libraries say are shown


class Progress(Protocol):
    """How far a command is."""

    @property
    def total(self) -> int:
        """How many images there are."""

    @property
    def finished(self) -> int:
        """How many of them are done."""

    @property
    def images_per_second(self) -> float:
        """Rate; 0 if there is none."""


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
def standard_streams() -> Iterator[_Output]:
    """Make stdin, stdout and stderr usable, whatever this process was started with, and yield what stdout writes to.

    A closed one is opened on the null device first of all: else the next file that is opened would get its number, and
    libraries and child processes would write their messages into that file. What an encoding lacks is written in
    backslash escapes. Streams that someone else has put into `sys` stay.
    """
    kept = sys.stdin, sys.stdout, sys.stderr
    for number in (STDIN, STDOUT, STDERR):
        _open_if_closed(number)
    output = _Output(STDOUT, _closed(sys.stdout), is_needed=True)
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 -- for the life of the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text_to(output, kept[1])
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text_to(_Output(STDERR, _closed(sys.stderr), is_needed=False), kept[2])
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


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number)
        os.set_inheritable(number, True)
        if null != number:
            os.close(null)


def _closed(stream: TextIO | None) -> OSError | None:
    """Return the error of writing to a stream that was closed when Python started."""
    return OSError(errno.EBADF, os.strerror(errno.EBADF)) if stream is None else None


def _text_to(output: _Output, before: TextIO | None) -> TextIO:
    encoding = "utf-8" if before is None else before.encoding
    buffer = io.BufferedWriter(output)
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)


def show(*lines: str) -> None:
    """Write lines for people to stdout; a newline inside one is escaped."""
    _write_stdout("".join(f"{to_printable(line)}\n" for line in lines))


def show_row(*cells: str) -> None:
    """Write one line of cells with tabs between them to stdout."""
    _write_stdout("\t".join(map(to_printable, cells)) + "\n")


def show_json(value: Any) -> None:
    """Write one line of JSON, in ASCII, to stdout."""
    _write_stdout(json.dumps(value) + "\n")


def show_path(path: Path) -> None:
    """Write a path to stdout: on a terminal escaped, elsewhere byte for byte, for `$(tfl precompute)`."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        show(str(path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + b"\n")
    sys.stdout.flush()


def tell(*lines: str) -> None:
    """Write lines for people to stderr; a newline inside one is escaped."""
    _write_stderr("".join(f"{to_printable(line)}\n" for line in lines))


def _write_stdout(text: str) -> None:
    _clear_progress(sys.stdout)
    sys.stdout.write(text)
    sys.stdout.flush()


def _write_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


class Table:
    """Shows a line for each mapping that it is called with, under a heading."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show a row; the first one's keys are the heading."""
        if not self._widths:
            self._widths = [30 if name == "setting" else max(12, len(name)) for name in row]
            self._show(list(row))
        self._show([f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()])

    def _show(self, cells: list[str]) -> None:
        show("  ".join(f"{cell:>{width}}" for cell, width in zip(cells, self._widths, strict=True)))


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[Progress], None]]:
    """Show rate and time left on stderr: one line rewritten on a terminal, a line now and then elsewhere."""
    is_terminal = sys.stderr.isatty()
    last_shown = time.monotonic() - (SECONDS_BETWEEN_LINES if is_terminal else 0)

    def show_progress(progress: Progress) -> None:
        nonlocal last_shown
        if time.monotonic() - last_shown < (0.2 if is_terminal else SECONDS_BETWEEN_LINES):
            return
        last_shown = time.monotonic()
        line = f"{progress.finished:,} of {progress.total:,} images"
        if rate := progress.images_per_second:  # of copied rows there is none
            left = (progress.total - progress.finished) / rate
            line += f", {rate:.1f} a second, {formatting.format_duration(left)} left"
        _write_stderr(f"\r{line}\033[K" if is_terminal else f"{line}\n")

    try:
        yield show_progress
    finally:
        _clear_progress(sys.stderr)


def tell_of_image(message: str) -> None:
    """Tell of a bad image, amid results and progress."""
    _clear_progress(sys.stderr)
    tell(message)


def _clear_progress(stream: TextIO) -> None:
    """Take the line of progress away where what comes next, to `stream`, would be glued to it."""
    if sys.stderr.isatty() and stream.isatty():
        _write_stderr("\r\033[K")


class _Formatter(logging.Formatter):
    """A record as lines that are safe to show: its arguments cannot add one."""

    def format(self, record: logging.LogRecord) -> str:
        safe = logging.makeLogRecord(vars(record))
        if isinstance(record.args, tuple):
            safe.args = tuple(map(_shown, record.args))
        return "\n".join(map(to_printable, super().format(safe).split("\n")))


def _shown(argument: Any) -> Any:
    """A number as it is, an error of tfl in its own lines, which are safe, and all else on one line."""
    is_safe = isinstance(argument, int | float)
    return argument if is_safe else str(argument) if isinstance(argument, TflError) else to_printable(str(argument))


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(*self.format(record).split("\n"))


@contextlib.contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Show what tfl logs, and what other libraries log for nobody else, on stderr; afterwards all is as it was."""
    logger, others = logging.getLogger("tfl"), logging.lastResort
    kept = logger.level, logger.propagate, others and others.formatter
    handler = _Handler()
    handler.setFormatter(_Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if others:
        others.setFormatter(_Formatter())
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(kept[0])
        logger.propagate = kept[1]
        if others:
            others.setFormatter(kept[2] or None)


@contextlib.contextmanager
def safe_warnings() -> Iterator[None]:
    """Show Python's warnings, which may name layers and files, on one line each."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        yield


def _show_warning(message: Any, category: type[Warning], *place: Any) -> None:
    tell(f"{category.__name__}: {message}")


@contextlib.contextmanager
def safe_usage() -> Iterator[None]:
    """Hold back what is written to stderr about wrong usage, and show it escaped.

    It repeats what was typed. Its own colours stay.
    """
    held = io.StringIO()
    try:
        with contextlib.redirect_stderr(held):
            yield
    finally:
        lines = held.getvalue().split("\n")
        _write_stderr("\n".join(map(_with_colours, lines)))


def _with_colours(line: str) -> str:
    """Escape a line, but for the colours that are there if stdout is a terminal."""
    if not sys.stdout.isatty():
        return to_printable(line)
    pieces = COLOUR.split(line)
    return "".join(piece if COLOUR.fullmatch(piece) else to_printable(piece) for piece in pieces)


@contextlib.contextmanager
def held_stderr() -> Iterator[None]:
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
                tell(*held.read().decode(errors="backslashreplace").splitlines())
            raise
        else:
            _release(stderr)


def _release(stderr: int) -> None:
    sys.stderr.flush()
    os.dup2(stderr, STDERR)
    os.close(stderr)
