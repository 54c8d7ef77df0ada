"""Log records, warnings and usage errors on stderr, escaped: they repeat names from files and users."""

import contextlib
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from tfl.cli.output import print_notes
from tfl.errors import TflError
from tfl.text import to_printable

COLOUR = re.compile(r"(\033\[[0-9;]*m)")


class _Formatter(logging.Formatter):
    """Formats a record as escaped lines: its arguments cannot add one."""

    def format(self, record: logging.LogRecord) -> str:
        safe = logging.makeLogRecord(vars(record))
        if isinstance(record.args, tuple):
            safe.args = tuple(map(_escape_argument, record.args))
        return "\n".join(map(to_printable, super().format(safe).split("\n")))


def _escape_argument(argument: Any) -> Any:
    """Return a number as it is, a `TflError` in its own escaped lines, and all else on one line."""
    is_safe = isinstance(argument, int | float)
    return argument if is_safe else str(argument) if isinstance(argument, TflError) else to_printable(str(argument))


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_notes(*self.format(record).split("\n"))


@contextlib.contextmanager
def log_to_stderr() -> Iterator[None]:
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
def escape_warnings() -> Iterator[None]:
    """Show Python's warnings, which may name layers and files, on one line each."""
    with warnings.catch_warnings():
        warnings.showwarning = _print_warning  # type: ignore[assignment]
        yield


def _print_warning(message: Any, category: type[Warning], *place: Any) -> None:
    print_notes(f"{category.__name__}: {message}")


@contextlib.contextmanager
def escape_usage() -> Iterator[None]:
    """Hold back what is written to stderr about wrong usage, and show it escaped.

    It repeats what was typed. Its own colours stay.
    """
    held = io.StringIO()
    try:
        with contextlib.redirect_stderr(held):
            yield
    finally:
        lines = held.getvalue().split("\n")
        sys.stderr.write("\n".join(map(_escape_but_colours, lines)))


def _escape_but_colours(line: str) -> str:
    """Escape a line, but for the colours that are there if stdout is a terminal."""
    if not sys.stdout.isatty():
        return to_printable(line)
    pieces = COLOUR.split(line)
    return "".join(piece if COLOUR.fullmatch(piece) else to_printable(piece) for piece in pieces)
