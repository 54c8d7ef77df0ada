"""Results to stdout and notes to stderr.

Everything for people is escaped, so that no name can steer a terminal. `print_json` writes ASCII, and `print_path` the
exact name of a file where a program reads it.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tfl.cli.progress import hide_bar
from tfl.text import to_printable


def print_lines(*lines: str) -> None:
    """Write lines for people to stdout; a newline inside one is escaped."""
    _write(sys.stdout, "".join(f"{to_printable(line)}\n" for line in lines))


def print_row(*cells: str) -> None:
    """Write one line of cells with tabs between them to stdout."""
    _write(sys.stdout, "\t".join(map(to_printable, cells)) + "\n")


def print_json(value: Any) -> None:
    """Write records, or JSON's types, as one line of JSON in ASCII to stdout."""
    from tfl.files.codec import encode_record

    _write(sys.stdout, json.dumps(encode_record(value)) + "\n")


def print_path(path: Path) -> None:
    """Write a path to stdout: on a terminal escaped, elsewhere byte for byte, for `$(tfl precompute)`."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        print_lines(str(path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + b"\n")
    sys.stdout.flush()


def print_notes(*lines: str) -> None:
    """Write lines for people to stderr; a newline inside one is escaped."""
    _write(sys.stderr, "".join(f"{to_printable(line)}\n" for line in lines))


def print_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to stdout, one line a row, in columns as wide as their widest cell."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in heading:
        table.add_column(Text(name), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(to_printable(cell)) for cell in row))
    written = io.StringIO()
    Console(file=written, width=1 << 14, color_system=None).print(table)  # wide enough that nothing wraps
    print_lines(*(line.rstrip() for line in written.getvalue().splitlines()))


class RowPrinter:
    """Prints a line for each mapping that it is called with, under a heading."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Print a row; the first one's keys are the heading."""
        if not self._widths:
            self._widths = [30 if name == "setting" else max(12, len(name)) for name in row]
            self._print(list(row))
        self._print([f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()])

    def print_record(self, record: Any) -> None:
        """Print the fields of a dataclass that are not None."""
        self({name: value for name, value in vars(record).items() if value is not None})

    def _print(self, cells: list[str]) -> None:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, self._widths, strict=True))
        print_lines("  ".join(padded))


def _write(stream: TextIO, text: str) -> None:
    with hide_bar() if stream.isatty() else contextlib.nullcontext():
        stream.write(text)
        stream.flush()
