"""Tables of text, read row by row with the standard library: CSV, TSV and JSON Lines.

The standard library, because it knows the line that each row begins on, and leaves every cell as it is
written: `007`, `1.0` and `NA` are names of classes as good as others.
"""

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from tfl.datasets.table_columns import fold_name
from tfl.errors import DatasetError
from tfl.text import shorten, to_one_line

MAX_LINE_CHARACTERS = 1 << 20  # of one line: what is longer is no table, and would fill the memory


class Table(Protocol):
    """A table that is read row by row."""

    columns: list[str]
    """The names of its columns, in its order."""
    unit: str
    """What its rows are counted in: lines, or rows."""

    def read_rows(self, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yield the number of each row, counted from 1, and its values in these columns, None where there is none.

        Raises:
          DatasetError: the table cannot be read; the number of the row.
        """


class CsvTable:
    """A CSV or TSV file; its first line names the columns, and quotes are as RFC 4180 has them.

    Args:
      known_names: usual names of columns, to tell which character separates the columns.
      delimiters: the characters that may.
    """

    unit = "line"

    def __init__(self, path: Path, known_names: Collection[str], delimiters: str) -> None:
        self._path = path
        headers: dict[str, list[str]] = {}
        for delimiter in delimiters:
            try:
                headers[delimiter] = self._read_header(delimiter)
            except DatasetError:  # quotes can be wrong for one character and right for another
                if delimiter == delimiters[-1] and not headers:
                    raise
        self._delimiter = max(headers, key=lambda delimiter: _rate(headers[delimiter], known_names))
        self.columns = headers[self._delimiter]

    def _read_header(self, delimiter: str) -> list[str]:
        for _, cells in self._read_cells(delimiter):
            return cells
        raise DatasetError(f"{self._path} is empty; expected a first line that names the columns, such as path,label")

    def read_rows(self, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        places = [self.columns.index(column) for column in columns]
        rows = self._read_cells(self._delimiter)
        next(rows)  # the names of the columns
        for line, cells in rows:
            self._require_width(line, cells)
            yield line, [cells[place] for place in places]

    def _read_cells(self, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each row begins, and its cells; blank lines are left out.

        Raises:
          DatasetError: a quote is not closed, or see `_read_lines`.
        """
        with _open_text(self._path) as file:
            reader = csv.reader(_read_lines(self._path, file), delimiter=delimiter, strict=True)
            line = 1
            try:
                for cells in reader:
                    if cells:
                        yield line, cells
                    line = reader.line_num + 1
            except csv.Error as error:
                raise DatasetError(
                    f"{self._path} cannot be read from line {line} on: {to_one_line(error)}; a quote that opens a cell "
                    'has to close it, and a quote inside one is written twice: ""'
                ) from error

    def _require_width(self, line: int, cells: Sequence[str]) -> None:
        """Refuse a row with too few cells, or with more than columns unless the others are empty."""
        width = len(self.columns)
        if len(cells) < width or any(cells[width:]):
            raise DatasetError(
                f"line {line} of {self._path} has another number of cells than the first line, {len(cells)} for "
                f"{width}: {to_one_line(self._delimiter.join(cells), 80)!r}; put quotes around a cell that holds "
                f"{self._delimiter!r}, and write every cell"
            )


def _rate(columns: Sequence[str], known_names: Collection[str]) -> tuple[int, int]:
    """Return how likely a first line was cut by the right character; the first of equal ones is taken."""
    return sum(fold_name(column) in known_names for column in columns), len(columns)


class JsonLinesTable:
    """A JSON Lines file: one object a line, whose keys are the columns; a row may lack some."""

    unit = "line"

    def __init__(self, path: Path) -> None:
        self._path = path
        names = (name for _, row in self._read_objects() for name in row)
        self.columns = list(dict.fromkeys(names))
        if not self.columns:
            raise DatasetError(f'{path} is empty; expected lines such as {{"path": "cat.png", "label": "cat"}}')

    def read_rows(self, columns: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
        for line, row in self._read_objects():
            yield line, [row.get(column) for column in columns]

    def _read_objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with _open_text(self._path) as file:
            for line, text in enumerate(_read_lines(self._path, file), start=1):
                if text.strip():
                    yield line, self._parse(line, text)

    def _parse(self, line: int, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text, object_pairs_hook=_to_object)
        except (ValueError, RecursionError) as error:
            reason = to_one_line(getattr(error, "msg", error), 120)
            raise DatasetError(
                f"line {line} of {self._path} is not JSON: {reason}; expected one object a line"
            ) from error
        if not isinstance(found, dict):
            shown = shorten(text.strip(), 80)
            raise DatasetError(f"line {line} of {self._path} is {shown!r}; expected one JSON object a line")
        return found


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _open_text(path: Path) -> IO[str]:
    try:
        return path.open(encoding="utf-8-sig", newline="")  # -sig: without the mark that Excel puts first
    except OSError as error:
        raise DatasetError(f"cannot read the table {path}: {error.strerror}") from error


def _read_lines(path: Path, file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file with their ends, of any system.

    Raises:
      DatasetError: the file is not UTF-8, or a line is too long for a table; the number of the line.
    """
    line = 1
    try:
        while text := file.readline(MAX_LINE_CHARACTERS + 1):
            if len(text) > MAX_LINE_CHARACTERS:
                raise DatasetError(
                    f"line {line} of {path} has more than {MAX_LINE_CHARACTERS:,} characters; is it a table?"
                )
            yield text
            line += 1
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not UTF-8: {_find_bytes(path)}; save it as UTF-8 (in Excel: 'CSV UTF-8'), or convert it: "
            f"iconv -f {_guess_encoding(path)} -t UTF-8"
        ) from error


def _find_bytes(path: Path) -> str:
    """Return the first line that is not UTF-8, and its bytes there."""
    with path.open("rb") as file:
        line = 1
        while content := file.readline(4 * MAX_LINE_CHARACTERS):
            try:
                content.decode()
            except UnicodeDecodeError as error:
                wrong = content[error.start : error.start + 4]
                return f"line {line} holds the bytes {wrong.hex(' ')}"
            line += 1
    return "it ends inside a character"


def _guess_encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "UTF-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
