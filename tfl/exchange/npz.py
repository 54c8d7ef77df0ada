"""NumPy's .npz: one array a column, facts as JSON in the array `facts`."""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfl.datasets.archive import Archive
from tfl.datasets.npy import Header
from tfl.datasets.source import to_text
from tfl.errors import DatasetError
from tfl.exchange.table import CHARACTER_BYTES, Block, Column, FeatureFormat, Table, count_block_rows
from tfl.files.paths import expand_user
from tfl.text import to_printable

FACTS = "facts"
CLASS_NAMES = "class_names"  # beside the columns: the name of each label
MAX_FACTS_BYTES = 64 << 20


class NpzTable:
    """An .npz file, opened; its arrays of `(n,)` and `(n, d)` are the columns.

    Raises:
      DatasetError: there is no such file, or it is no archive of plain arrays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = Archive(expand_user(path))
        names = [name for name in self._archive.names if name not in (FACTS, CLASS_NAMES)]
        self._headers = {name: self._archive.header(name) for name in names}
        self.facts: Mapping[str, Any] = self._read_facts()
        self.columns: Mapping[str, Column] = {name: _describe(header) for name, header in self._headers.items()}
        vectors = [header.shape[0] for name, header in self._headers.items() if self.columns[name].kind == "vector"]
        self.num_rows = vectors[0] if vectors else 0

    def _read_facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        if FACTS in self._archive.names:
            facts = _parse_facts(self._read_small(FACTS))
        if CLASS_NAMES in self._archive.names:
            names = self._read_small(CLASS_NAMES)
            if names.ndim != 1 or names.dtype.kind not in "SU":
                raise DatasetError(f"class_names of {self.path} is {names.dtype} {names.shape}; expected text (c,)")
            facts["class_names"] = [to_text(name) for name in names]
        return facts

    def _read_small(self, name: str) -> np.ndarray:
        header = self._archive.header(name)
        if header.num_bytes > MAX_FACTS_BYTES:
            raise DatasetError(f"{name} of {self.path} has {header.num_bytes:,} bytes; {MAX_FACTS_BYTES:,} are read")
        return self._archive.read(name, header)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Yield all rows of some columns; see `Table.blocks`."""
        for name in names:
            self._require_column(name)
        num_rows = count_block_rows([self.columns[name] for name in names])
        columns = {name: self._read_column(name, num_rows) for name in names}
        for _ in range(0, self.num_rows, num_rows):
            yield {name: next(values) for name, values in columns.items()}
        for values in columns.values():
            next(values, None)  # the archive checks the checksum at the end

    def _require_column(self, name: str) -> None:
        header = self._headers[name]
        if header.shape[:1] != (self.num_rows,):
            raise DatasetError(
                f"{to_printable(name)} of {self.path} has shape {header.shape}; expected {self.num_rows} rows, as many "
                "as there are features"
            )
        if header.is_fortran and len(header.shape) > 1:
            raise DatasetError(
                f"{to_printable(name)} of {self.path} is stored column after column; write it again with "
                "`numpy.ascontiguousarray`"
            )

    def _read_column(self, name: str, num_rows: int) -> "Iterator[np.ndarray | list[str]]":
        header = self._headers[name]
        for block in self._archive.read_in_blocks(header, num_rows):
            with self._archive.reading():  # text may hold numbers that are no characters
                converted = _convert(block, self.columns[name])
            yield converted


def _describe(header: Header) -> Column:
    kind, shape = header.dtype.kind, header.shape
    if len(shape) == 2 and kind == "f" and header.dtype.itemsize in (2, 4, 8):
        return Column("vector", f"float{8 * header.dtype.itemsize}", shape[1])
    if len(shape) == 1 and kind in "SU":
        return Column("text", width=header.dtype.itemsize // (CHARACTER_BYTES if kind == "U" else 1))
    if len(shape) == 1 and kind in "iu":
        return Column("integer")
    return Column("other", f"{header.dtype} {shape}")


def _convert(block: np.ndarray, column: Column) -> "np.ndarray | list[str]":
    if column.kind == "text":
        return [to_text(value) for value in block.tolist()]
    return block.astype(np.int64 if column.kind == "integer" else column.dtype, copy=False)


def _parse_facts(array: np.ndarray) -> dict[str, Any]:
    try:
        facts = json.loads(str(array))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def save_table(table: Table, path: Path) -> None:
    """Write a table to a new file, column after column and block by block, and flush it to the disk."""
    class_names = np.asarray(table.facts.get(CLASS_NAMES, []), str)
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, column in table.columns.items():
                _write_column(archive, name, column, table)
            _write_array(archive, CLASS_NAMES, class_names)
            _write_array(archive, FACTS, np.asarray(json.dumps(dict(table.facts))))
        file.flush()
        os.fsync(file.fileno())


def _write_column(archive: zipfile.ZipFile, name: str, column: Column, table: Table) -> None:
    dtype = np.dtype({"text": f"<U{max(1, column.width)}", "integer": "<i8"}.get(column.kind, column.dtype))
    dtype = dtype.newbyteorder("<")
    shape = (table.num_rows, column.width) if column.kind == "vector" else (table.num_rows,)
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(member, header)
        for block in table.blocks([name]):
            member.write(np.ascontiguousarray(block[name], dtype).reshape(-1).view(np.uint8).data)


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


NPZ = FeatureFormat(suffix=".npz", noun="an .npz file", open_table=NpzTable, save_table=save_table)
