"""The columns of a file that hold features, ids, labels and roles: those that the user names, or the usual ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from tfl.errors import DatasetError, SpecError
from tfl.exchange.table import Column, Table
from tfl.specs import VIEWS, DatasetSpec, View
from tfl.text import join_first, to_printable

USUAL_NAMES = {
    "id": ("id", "ids"),
    "role": ("role", "split"),
    "label": ("label", "labels"),
    "class_name": ("class_name",),
}
VECTOR = "a list of float16, float32 or float64, of one length"


@dataclass(frozen=True)
class ColumnNames:
    """The name of each column that is read; empty where there is none.

    Attributes:
      features: by view.
      label: integers.
      class_name: texts.
    """

    features: dict[View, str]
    id: str
    role: str
    label: str
    class_name: str
    group: str

    @property
    def of_rows(self) -> list[str]:
        """All but the features."""
        names = (self.id, self.role, self.label, self.class_name, self.group)
        return [name for name in names if name]


def find_columns(table: Table, spec: DatasetSpec, features_key: str, where: str) -> ColumnNames:
    """Return the columns to read.

    Args:
      spec: its fields that end in `_key` name columns.
      where: the file, for messages.

    Raises:
      DatasetError: a column is missing, or holds something else; what there is, and what was expected.
      SpecError: a column is named that has no use here.
    """
    finder = _Finder(table, where)
    if spec.image_key:
        raise SpecError("--image-key means nothing for a file of features; it takes --features-key")
    label = finder.find("label", spec.label_key, ("integer", "text"))
    class_name = finder.find("class_name", "", ("text",))
    if label and table.columns[label].kind == "text":
        label, class_name = "", label
    if not label and not class_name:
        raise DatasetError(
            f"{where} has no labels: expected a column label (integers or text) or class_name, or another named by "
            f"--label-key; it has {finder.listed}"
        )
    names = ColumnNames(
        features=finder.find_views(features_key),
        id=finder.find("id", spec.id_key, ("text", "integer")),
        role=finder.find("role", spec.split_key, ("text",)),
        label=label,
        class_name=class_name,
        group=finder.find("group", spec.group_key, ("text", "integer")),
    )
    if names.role and names.group:
        raise SpecError(f"--group-key divides a file without roles, and {where} has them in the column {names.role}")
    return names


class _Finder:
    """The columns of a table, looked through."""

    def __init__(self, table: Table, where: str) -> None:
        self._columns, self._where = table.columns, where

    @property
    def listed(self) -> str:
        """The columns there are."""
        return join_first([to_printable(name) for name in self._columns]) or "no columns"

    def find(self, what: str, typed: str, kinds: Sequence[str]) -> str:
        """Return a column's name; nothing if the user has named none and no usual one is there."""
        usual = [name for name in USUAL_NAMES.get(what, ()) if name in self._columns]
        name = typed or next(iter(usual), "")
        if not name:
            return ""
        if self._require(name).kind not in kinds:
            raise self._wrong(name, " or ".join({"integer": "integers"}.get(kind, kind) for kind in kinds))
        return name

    def find_views(self, key: str) -> dict[View, str]:
        """Return the columns of features, by view."""
        names: dict[View, str] = {view: key if view == "original" else f"{key}_{view}" for view in VIEWS}
        found = {view: name for view, name in names.items() if name in self._columns or view == "original"}
        width = self._require(key).width
        for name in found.values():
            column = self._require(name)
            if column.kind != "vector" or not column.width:
                raise self._wrong(name, VECTOR)
            if column.width != width:
                raise DatasetError(f"{self._where} has {width} numbers a row in {key} and {column.width} in {name}")
        return found

    def _require(self, name: str) -> Column:
        if name not in self._columns:
            raise DatasetError(
                f"{self._where} has no column {to_printable(name)!r}; it has {self.listed} (other names are told by "
                "--features-key, --label-key, --id-key, --split-key, --group-key)"
            )
        return self._columns[name]

    def _wrong(self, name: str, expected: str) -> DatasetError:
        column = self._columns[name]
        received = column.dtype if column.kind == "other" else f"{column.kind} {column.dtype}".strip()
        return DatasetError(f"{to_printable(name)} of {self._where} is {received}; expected {expected}")
