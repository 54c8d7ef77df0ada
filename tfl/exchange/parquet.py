"""Parquet, by pyarrow: features as a list of fixed size, facts as JSON in the schema's metadata."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfl.errors import DatasetError
from tfl.exchange.table import BLOCK_BYTES, Block, Column, FeatureFormat, Table, count_block_rows
from tfl.machine.packages import require_package
from tfl.text import to_one_line, to_printable

EXTRA = "parquet"
FACTS_KEY = b"tfl"  # of the schema's metadata
BUFFER_BYTES = 1 << 20  # read at once of each column
GROUP_BYTES = 32 << 20  # of vectors in a row group


class ParquetTable:
    """A Parquet file, opened.

    Raises:
      DatasetError: there is no such file, or it is no Parquet file.
      ExtraError: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow = require_package("pyarrow", EXTRA)
        parquet = require_package("pyarrow.parquet", EXTRA)
        with self._reading():
            # Without these two, a whole row group of a stranger's file would be in memory.
            self._file = parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
            self.num_rows: int = self._file.metadata.num_rows
            schema = self._file.schema_arrow
            self.facts = _read_facts(schema.metadata)
            self.columns = {each.name: self._describe(each) for each in schema}

    def _describe(self, field: Any) -> Column:
        types, kind = self._arrow.types, field.type
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_string(kind) or types.is_large_string(kind):
            return Column("text")
        if types.is_integer(kind):
            return Column("integer")
        if types.is_fixed_size_list(kind) and types.is_floating(kind.value_type):
            return Column("vector", _name_dtype(kind.value_type), kind.list_size)
        if (types.is_list(kind) or types.is_large_list(kind)) and types.is_floating(kind.value_type):
            return Column("vector", _name_dtype(kind.value_type), self._find_width(field.name))
        return Column("other", str(kind))

    def _find_width(self, name: str) -> int:
        """Return the length of the first list of a column of lists of any length."""
        for batch in self._file.iter_batches(batch_size=1, columns=[name]):
            if batch.num_rows and batch.column(0).null_count == 0:
                return len(batch.column(0)[0])
        return 0

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Yield all rows of some columns; see `Table.blocks`."""
        num_rows = count_block_rows([self.columns[name] for name in names])
        batches = self._file.iter_batches(batch_size=num_rows, columns=list(names))
        start = 0
        while True:
            with self._reading():
                batch = next(batches, None)
                if batch is None:
                    return
                block = {name: self._convert(batch.column(name), name, start) for name in names}
            yield block
            start += batch.num_rows

    def _convert(self, array: Any, name: str, start: int) -> "np.ndarray | list[str]":
        if self._arrow.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if array.null_count:
            row = start + array.is_null().to_pylist().index(True)
            raise DatasetError(f"{to_printable(name)} of {self.path} is empty in row {row} (the first is 0)")
        column = self.columns[name]
        if column.kind == "vector":
            return self._to_matrix(array, name, start)
        values: list[str] = array.to_pylist()
        return values if column.kind == "text" else _to_int64(values, name, self.path)

    def _to_matrix(self, array: Any, name: str, start: int) -> np.ndarray:
        """Return lists of numbers as `(m, d)`."""
        width = self.columns[name].width
        if not self._arrow.types.is_fixed_size_list(array.type):
            _require_width(np.diff(array.offsets.to_numpy()), width, start, f"{to_printable(name)} of {self.path}")
        values = array.flatten()
        if values.null_count:
            row = start + values.is_null().to_pylist().index(True) // width
            raise DatasetError(f"{to_printable(name)} of {self.path} lacks a number in row {row} (the first is 0)")
        return np.asarray(values.to_numpy(zero_copy_only=False).reshape(len(array), width))  # (m, d)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what pyarrow raises of a file into one error."""
        try:
            yield
        except (DatasetError, MemoryError):
            raise
        except FileNotFoundError:
            raise DatasetError(f"there is no file {self.path}") from None
        except Exception as error:  # of foreign files pyarrow raises a dozen kinds of exception
            raise DatasetError(f"{self.path} cannot be read as a Parquet file: {to_one_line(error, 300)}") from error


def _name_dtype(kind: Any) -> str:
    return {"halffloat": "float16", "float": "float32", "double": "float64"}[str(kind)]


def _require_width(lengths: np.ndarray, width: int, start: int, what: str) -> None:
    """Refuse lists of several lengths."""
    others = np.flatnonzero(lengths != width)
    if len(others):
        row = start + int(others[0])
        raise DatasetError(
            f"{what} has {lengths[others[0]]} numbers in row {row} and {width} in row 0; every row needs as many"
        )


def _to_int64(values: list[Any], name: str, path: Path) -> np.ndarray:
    try:
        return np.asarray(values, np.int64)
    except OverflowError as error:
        raise DatasetError(f"{to_printable(name)} of {path} holds a number that int64 cannot hold") from error


def _read_facts(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Return what tfl has written into a schema; nothing if another program made the file."""
    try:
        facts = json.loads((metadata or {}).get(FACTS_KEY, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def save_table(table: Table, path: Path) -> None:
    """Write a table to a new file, block by block, and flush it to the disk."""
    arrow = require_package("pyarrow", EXTRA)
    parquet = require_package("pyarrow.parquet", EXTRA)
    fields = [arrow.field(name, _make_type(column, arrow), False) for name, column in table.columns.items()]
    schema = arrow.schema(fields, {FACTS_KEY: json.dumps(dict(table.facts))})
    texts = [name for name, column in table.columns.items() if column.kind == "text" and name != "id"]
    with path.open("wb") as file:
        # A dictionary of floats would only cost time.
        with parquet.ParquetWriter(file, schema, use_dictionary=texts) as writer:
            for group in _join_blocks(table):
                arrays = [
                    _to_array(group[name], field.type, arrow) for name, field in zip(table.columns, schema, strict=True)
                ]
                writer.write_batch(arrow.record_batch(arrays, schema=schema))
        file.flush()
        os.fsync(file.fileno())


def _join_blocks(table: Table) -> Iterator[Block]:
    """Yield blocks of `GROUP_BYTES` each: small row groups are slow to read."""
    names = list(table.columns)
    num_blocks = max(1, GROUP_BYTES // BLOCK_BYTES)
    blocks = table.blocks(names)
    while together := list(itertools.islice(blocks, num_blocks)):
        yield {name: _concatenate([block[name] for block in together]) for name in names}


def _concatenate(parts: "Sequence[np.ndarray | list[str]]") -> "np.ndarray | list[str]":
    if isinstance(parts[0], list):
        return list(itertools.chain.from_iterable(parts))
    return np.concatenate(parts)


def _make_type(column: Column, arrow: Any) -> Any:
    if column.kind == "vector":
        return arrow.list_(arrow.field("element", arrow.from_numpy_dtype(column.dtype), False), column.width)
    return arrow.string() if column.kind == "text" else arrow.int64()


def _to_array(values: "np.ndarray | list[str]", kind: Any, arrow: Any) -> Any:
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return arrow.FixedSizeListArray.from_arrays(arrow.array(values.reshape(-1)), type=kind)
    return arrow.array(values, kind)


def _require_pyarrow() -> None:
    require_package("pyarrow.parquet", EXTRA)


PARQUET = FeatureFormat(
    suffix=".parquet",
    noun="a Parquet file",
    open_table=ParquetTable,
    save_table=save_table,
    require=_require_pyarrow,
)
