"""Columns of a table: which holds the images' paths, the labels, the splits, the ids and the groups."""

from collections.abc import Sequence
from typing import NamedTuple

from tfl.errors import DatasetError
from tfl.specs import DatasetSpec
from tfl.text import join_first, to_printable


class Use(NamedTuple):
    """What a column is used for."""

    noun: str
    key: str
    """The field of a DatasetSpec that names the column."""
    name: str
    """The column's usual name."""
    aliases: tuple[str, ...] = ()
    """Names that are taken if there is exactly one of them, and no column of the usual name."""
    is_needed: bool = False


USES = (
    Use("images", "image_key", "path", ("image", "file", "filename", "file_name"), is_needed=True),
    Use("labels", "label_key", "label", ("class",), is_needed=True),
    Use("splits", "split_key", "split"),
    Use("ids", "id_key", "id"),
    Use("groups", "group_key", "group"),
)
KNOWN_NAMES = frozenset(name for use in USES for name in (use.name, *use.aliases))


def fold_name(name: str) -> str:
    """Return a column's name as it is compared: without white space around it, in one case."""
    return name.strip().casefold()


def choose_columns(table: str, columns: Sequence[str], spec: DatasetSpec) -> dict[str, str]:
    """Return the column of each use, by its noun: the one that the spec names, or else the one with a usual name.

    Args:
      table: its name, for messages.
      columns: the names of the table's columns.

    Raises:
      DatasetError: a column that is needed or named is not there, or more than one could be meant.
    """
    chosen = {}
    for use in USES:
        key = getattr(spec, use.key)
        column = _find_named(table, columns, use, key) if key else _find_usual(table, columns, use)
        if column is not None:
            chosen[use.noun] = column
    return chosen


def _find_named(table: str, columns: Sequence[str], use: Use, key: str) -> str:
    found = [column for column in columns if column.strip() == key.strip()]
    if not found:
        raise DatasetError(f"{table} has no column {key!r} ({_to_flag(use)}); it has {_list(columns)}")
    return _require_one(table, use, found)


def _find_usual(table: str, columns: Sequence[str], use: Use) -> str | None:
    for names in ((use.name,), use.aliases):
        found = [column for column in columns if fold_name(column) in names]
        if found:
            return _require_one(table, use, found)
    if use.is_needed:
        raise DatasetError(
            f"{table} has no column of {use.noun}: expected {' or '.join((use.name, *use.aliases))}, got "
            f"{_list(columns)}",
            f"The first line of a CSV or TSV file names its columns; another name is given by {_to_flag(use)}",
        )
    return None


def _require_one(table: str, use: Use, found: Sequence[str]) -> str:
    if len(found) > 1:
        raise DatasetError(
            f"{table} has several columns that could hold the {use.noun}: {_list(found)}; "
            f"name one with {_to_flag(use)}, and rename columns of equal names"
        )
    return found[0]


def _list(columns: Sequence[str]) -> str:
    return join_first([repr(to_printable(column)) for column in columns], "columns")


def _to_flag(use: Use) -> str:
    return "--" + use.key.replace("_", "-")
