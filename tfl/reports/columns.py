"""Columns of names, padded to one width.

Names come from files and users: they are escaped, and columns are as wide as the escaped names.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from tfl.text import display_width, pad, to_printable

Value = TypeVar("Value")


def pad_names(names: Iterable[str]) -> list[str]:
    """Return names as they are shown, padded to the width of the widest."""
    shown = [to_printable(str(name)) for name in names]
    width = max(map(display_width, shown), default=0)
    return [pad(name, width) for name in shown]


def pad_keys(values: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    """Return the keys of a mapping, padded, with its values."""
    return zip(pad_names(values), values.values(), strict=True)
