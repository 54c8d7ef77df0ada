"""The rows of a table as text; cells that are empty or of another type are refused with their lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfl.datasets.table_text import Table
from tfl.errors import DatasetError
from tfl.text import first_lines, shorten, to_printable

PARTS = {"train": "train", "training": "train"}
PARTS |= {"val": "val", "valid": "val", "validation": "val"}
PARTS |= {"test": "test", "testing": "test"}
"""The split that a value in the column of splits means, in lower case."""


@dataclass
class TableRows:
    """The rows of a table, in its order; the lists are as long as there are rows, or empty without such a column."""

    table: str
    """The table's name, for messages."""
    unit: str
    """What the rows are counted in: `line` or `row`."""
    numbers: list[int] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    """The paths or URIs as they are written in the table."""
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def place(self, row: int) -> str:
        """Return where a row is, `line 7`."""
        return f"{self.unit} {self.numbers[row]}"

    def require_none(self, lines: list[str], title: str, *advice: str) -> None:
        """Refuse the table if there are lines to report, each about one row.

        Args:
          title: what is wrong, after the name of the table and how often; before a colon.

        Raises:
          DatasetError: the first lines and their number.
        """
        if lines:
            raise DatasetError(f"{self.table}: {title}, {len(lines):,} in all:", *first_lines(lines), *advice)


def read_rows(table: Table, name: str, columns: Mapping[str, str]) -> TableRows:
    """Read the columns in use.

    Args:
      columns: the column of each use, see `choose_columns`.

    Raises:
      DatasetError: there is no row, a cell is empty or is no text or whole number, or a split is unknown.
    """
    rows = TableRows(name, table.unit)
    lists: list[list[str]] = [getattr(rows, noun) for noun in columns]
    known: dict[str, str] = {}  # equal texts are kept once
    wrong: list[str] = []
    for number, values in table.read_rows(list(columns.values())):
        rows.numbers.append(number)
        for texts, column, value in zip(lists, columns.values(), values, strict=True):
            try:
                text = _to_text(value)
            except ValueError as error:
                wrong.append(f"{table.unit} {number}, column {to_printable(column)}: {error}")
                text = ""
            texts.append(known.setdefault(text, text))
    rows.require_none(wrong, "cells cannot be used", "every row needs a text or a whole number in each column in use")
    if not rows.numbers:
        raise DatasetError(f"{name} has no rows; expected one for each image")
    rows.splits = _to_parts(rows)
    return rows


def _to_text(value: Any) -> str:
    """Return a cell as text.

    Raises:
      ValueError: it is empty, or of another type.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError("it is empty")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        kind = "several values" if isinstance(value, list) else type(value).__name__
        raise ValueError(f"it holds {kind}, {shorten(to_printable(repr(value)), 40)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"it is no text that UTF-8 can write: {value!r}") from None
    return value


def _to_parts(rows: TableRows) -> list[str]:
    """Return the split of each row by the name it has here: train, val or test."""
    parts, unknown = [], []
    for row, text in enumerate(rows.splits):
        part = PARTS.get(text.strip().lower(), "")
        if not part:
            unknown.append(f"{rows.place(row)}: {text!r}")
        parts.append(part)
    rows.require_none(unknown, "unknown splits", f"expected one of {', '.join(PARTS)}")
    return parts
