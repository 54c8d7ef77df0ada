"""A table of features, whether a file or a cache holds it; and the record of a file format for such tables.

To add a format, write one file with one `FeatureFormat` in it and name it in `tfl.exchange.__init__`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

Kind = Literal["text", "integer", "vector", "other"]
Block = Mapping[str, "np.ndarray | list[str]"]
"""Some rows: by column a list of texts, int64 `(m,)`, or float32 or float16 `(m, d)`."""

BLOCK_BYTES = 16 << 20  # of vectors that are in memory at once
TEXT_ROWS = 1 << 16  # of a block without vectors
CHARACTER_BYTES = 4  # of a text in NumPy


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      dtype: of a vector's numbers, `float32` or `float16`; for a column of another kind its type, in words.
      width: numbers of a vector; most characters of a text, if they are known.
    """

    kind: Kind
    dtype: str = ""
    width: int = 0


class Table(Protocol):
    """Rows of named columns, read in blocks as often as they are asked for."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """The columns by name, in their order."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the table says of itself, in JSON's types: see `CachedTable.facts`."""

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Yield all rows of some columns, in order, in blocks of at most about `BLOCK_BYTES`.

        Raises:
          DatasetError: a value is missing, or is not of its column's kind; the message names the row.
        """


@dataclass(frozen=True)
class FeatureFormat:
    """A file format for tables of features.

    Attributes:
      suffix: of the files' names.
      noun: in messages, "a Parquet file".
      open_table: opens a file.
      save_table: writes a table to a new file, block by block.
      require: refuses to go on if a package is missing.
    """

    suffix: str
    noun: str
    open_table: Callable[[Path], Table]
    save_table: Callable[[Table, Path], None]
    require: Callable[[], None] = field(default=lambda: None)


def count_block_rows(columns: Sequence[Column]) -> int:
    """Return the rows of a block: as many as `BLOCK_BYTES` hold, or `TEXT_ROWS` if that is less."""
    row_bytes = 0
    for each in columns:
        row_bytes += each.width * (np.dtype(each.dtype).itemsize if each.kind == "vector" else CHARACTER_BYTES)
    return max(1, min(TEXT_ROWS, BLOCK_BYTES // max(1, row_bytes)))
