"""Tables in Parquet, read batch by batch with pyarrow."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfl.errors import DatasetError
from tfl.machine.packages import require_package
from tfl.text import to_one_line

ROWS_READ_TOGETHER = 8192


class ParquetTable:
    """A Parquet file; only the columns that are asked for are read.

    Raises:
      ExtraError: pyarrow is not installed.
      DatasetError: it is no such file.
    """

    unit = "row"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrow = require_package("pyarrow", "parquet")
        self._parquet = require_package("pyarrow.parquet", "parquet")
        # ValueError: a text that is not UTF-8, which pyarrow finds out when it becomes Python's
        self._errors = (self._arrow.ArrowException, OSError, ValueError)
        with self._open() as file:
            self.columns: list[str] = list(file.schema_arrow.names)

    def _open(self) -> Any:
        try:
            return self._parquet.ParquetFile(self._path)
        except self._errors as error:
            raise self._error(error) from error

    def read_rows(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        row = 1
        try:
            with self._open() as file:
                self._require_plain(file.schema_arrow, columns)
                for batch in file.iter_batches(ROWS_READ_TOGETHER, columns=list(dict.fromkeys(columns))):
                    values = [batch.column(column).to_pylist() for column in columns]
                    yield from enumerate(zip(*values, strict=True), start=row)
                    row += batch.num_rows
        except self._errors as error:
            raise self._error(error) from error

    def _require_plain(self, schema: Any, columns: Sequence[str]) -> None:
        """Refuse columns of images or lists, before their values fill the memory."""
        types = self._arrow.types
        for column in columns:
            kind = schema.field(column).type
            if types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
                raise DatasetError(
                    f"column {column!r} of {self._path} holds {to_one_line(str(kind), 80)}; expected a text or a whole "
                    "number in each row, and paths or URIs in that of the images"
                )

    def _error(self, error: Exception) -> DatasetError:
        return DatasetError(f"{self._path} cannot be read as Parquet: {to_one_line(error)}; write it again")
