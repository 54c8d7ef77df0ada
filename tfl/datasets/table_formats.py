"""The kinds of table, by the suffix of the file. To add one, write a class like `CsvTable` and name it here."""

from collections.abc import Callable
from pathlib import Path

from tfl.datasets.table_columns import KNOWN_NAMES, fold_name
from tfl.datasets.table_parquet import ParquetTable
from tfl.datasets.table_text import CsvTable, JsonLinesTable, Table
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec

# Each opens a file, given names of columns that it may have.
FORMATS: dict[str, Callable[[Path, frozenset[str]], Table]] = {
    ".csv": lambda path, known: CsvTable(path, known, ",;\t"),
    ".tsv": lambda path, known: CsvTable(path, known, "\t"),
    ".jsonl": lambda path, known: JsonLinesTable(path),
    ".parquet": lambda path, known: ParquetTable(path),
}


def open_table(path: Path, spec: DatasetSpec) -> Table:
    """Open a table by its suffix.

    Raises:
      DatasetError: there is no such file, its suffix is no table's, or it cannot be read.
      ExtraError: a package that it needs is not installed.
    """
    if not path.is_file():
        kind = "is no file" if path.exists() else "does not exist"
        raise DatasetError(f"the table {path} {kind}; expected a file of this machine: {', '.join(FORMATS)}")
    if not is_table_name(path):
        raise DatasetError(f"{path} is not called like a table; expected a name that ends in {', '.join(FORMATS)}")
    keys = (spec.image_key, spec.label_key, spec.split_key, spec.id_key, spec.group_key)
    return FORMATS[path.suffix.lower()](path, KNOWN_NAMES | {fold_name(key) for key in keys if key})


def is_table_name(path: Path) -> bool:
    """Return whether a file is a table by its name."""
    return path.suffix.lower() in FORMATS
