"""Refusals of rows of a table that contradict one another: an image would be lost, or get a wrong label."""

import logging
from collections.abc import Callable, Iterable

from tfl.datasets.spelling import find_spellings
from tfl.datasets.table_rows import TableRows
from tfl.text import join_first, to_printable

logger = logging.getLogger(__name__)


def require_one_spelling(rows: TableRows, texts: Iterable[str], noun: str, things: str) -> None:
    """Refuse texts that differ in white space alone, or in how an accent is stored: they look the same.

    Args:
      texts: of one column.
      noun: what they are called.
      things: what two different ones stand for.

    Raises:
      DatasetError: each spelling and the first row that has it.
    """
    first = _find_first(texts)
    lines = [
        f"{text!r} in {rows.place(first[text])}, and {other!r} in {rows.place(first[other])}"
        for text, other in find_spellings(first)
    ]
    title = f"{noun} that differ in white space alone would be two {things}"
    rows.require_none(lines, title, "spell each one way")


def warn_of_cases(labels: Iterable[str]) -> None:
    """Warn of labels that differ in upper and lower case alone: they may be meant as one class."""
    spelling: dict[str, str] = {}
    pairs = []
    for label in sorted(set(labels)):
        other = spelling.setdefault(label.casefold(), label)
        if other != label:
            pairs.append(to_printable(f"{other!r} and {label!r}"))
    if pairs:
        logger.warning("labels that differ in upper and lower case alone are two classes: %s", join_first(pairs))


def require_one_row_each(rows: TableRows, keys: Iterable[str]) -> None:
    """Refuse an image that has two rows.

    Args:
      keys: where each row's image is, `(n,)`: equal for two spellings of one path.

    Raises:
      DatasetError: the rows; images with two labels come first.
    """
    repeated = list(_find_repeated(keys))
    lines = [
        f"{rows.images[first]!r} is {rows.labels[first]!r} in {rows.place(first)}, and {rows.images[row]!r} is "
        f"{rows.labels[row]!r} in {rows.place(row)}"
        for first, row in repeated
        if rows.labels[first] != rows.labels[row]
    ]
    rows.require_none(lines, "images with two labels", "give each image one row, with one label")
    lines = _describe_repeated(rows, repeated, lambda row: rows.images[row])
    rows.require_none(lines, "images with two rows", "give each image one row")


def require_unique_ids(rows: TableRows) -> None:
    """Refuse two rows with one id.

    Raises:
      DatasetError: the rows.
    """
    repeated = list(_find_repeated(rows.ids))
    lines = _describe_repeated(rows, repeated, lambda row: rows.ids[row])
    rows.require_none(
        lines,
        "ids that two rows have",
        "give each image its own id, or name another column with --id-key (that of the paths, for instance)",
    )


def _find_repeated(keys: Iterable[str]) -> Iterable[tuple[int, int]]:
    """Yield each row whose key an earlier row has, as that first row and this one."""
    first: dict[str, int] = {}
    for row, key in enumerate(keys):
        earlier = first.setdefault(key, row)
        if earlier != row:
            yield earlier, row


def _describe_repeated(rows: TableRows, repeated: list[tuple[int, int]], text_of: Callable[[int], str]) -> list[str]:
    return [f"{text_of(row)!r} in {rows.place(row)} as in {rows.place(first)}" for first, row in repeated]


def require_whole_groups(rows: TableRows, used: Iterable[tuple[str, int]]) -> None:
    """Refuse a group that has images in two roles.

    Args:
      used: the role and the row of each image in use.

    Raises:
      DatasetError: each such group, with a row in each of two roles.
    """
    first: dict[str, tuple[str, int]] = {}  # the role and the row in which a group was seen first
    torn: dict[str, str] = {}
    for role, row in used:
        group = rows.groups[row]
        other_role, other = first.setdefault(group, (role, row))
        if role != other_role and group not in torn:
            torn[group] = f"{group!r} is in {other_role} ({rows.place(other)}) and {role} ({rows.place(row)})"
    rows.require_none(
        list(torn.values()),
        "groups are in two parts, so that what is tested was trained on",
        "put all rows of a group into one part, or leave the column of splits out: the groups are then divided",
    )


def _find_first(texts: Iterable[str]) -> dict[str, int]:
    """Return the first row of each text."""
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        first.setdefault(text, row)
    return first
