"""The rows of a file of features on their way into the shards of a cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfl.cache import CachedRows, Shard
from tfl.errors import DatasetError
from tfl.exchange.column_names import ColumnNames
from tfl.exchange.rows import read_ids
from tfl.exchange.table import Table
from tfl.specs import Role, View
from tfl.text import to_printable

NOT_CHOSEN = 255  # the role of rows that no split chooses


@dataclass(frozen=True)
class StoredRows:
    """The rows of a file as a cache stores them.

    Attributes:
      path: of the file, for messages.
      dtype: of the cache's features.
      labels: of every row of the file, `(n,)`.
    """

    path: Path
    table: Table
    names: ColumnNames
    dtype: str
    labels: np.ndarray

    def fill_shards(self, shards: Sequence[Shard], role_of_row: np.ndarray) -> Iterator[tuple[Shard, CachedRows]]:
        """Yield every shard with its rows; rows of all roles may be mixed in the file.

        Args:
          shards: of all roles, each role's in order.
          role_of_row: the place of each row's role among the roles of the shards, `(n,)`, or
            `NOT_CHOSEN`.

        Raises:
          DatasetError: a number is missing or not finite.
        """
        of_role: dict[Role, list[Shard]] = {}
        for shard in shards:
            of_role.setdefault(shard.role, []).append(shard)
        waiting: dict[Role, list[CachedRows]] = {role: [] for role in of_role}
        for block, roles in self._read_blocks(role_of_row):
            for place, role in enumerate(of_role):
                waiting[role].append(_take(block, roles == place))
                yield from _cut(waiting[role], of_role[role])

    def _read_blocks(self, role_of_row: np.ndarray) -> Iterator[tuple[CachedRows, np.ndarray]]:
        """Yield blocks of rows and the place of each one's role, `(m,)`."""
        names = self.names
        columns = [*([names.id] if names.id else []), *names.features.values()]
        start = 0
        for block in self.table.blocks(columns):
            count = len(block[names.features["original"]])
            ids = read_ids(block, names.id, start, count)
            roles = role_of_row[start : start + count]
            features: dict[View, np.ndarray] = {}
            for view, name in names.features.items():
                features[view] = self._convert(np.asarray(block[name]), name, ids, roles != NOT_CHOSEN)
            original, labels = features.pop("original"), self.labels[start : start + count]
            yield CachedRows(original, labels, np.asarray(ids, "S"), features), roles
            start += count

    def _convert(self, features: np.ndarray, name: str, ids: list[bytes], is_chosen: np.ndarray) -> np.ndarray:
        """Return features `(m, d)` in the dtype of the cache, all of them finite in the rows that are chosen."""
        with np.errstate(over="ignore"):
            stored = features.astype(self.dtype, copy=False)
        is_bad = ~np.isfinite(stored)
        rows = np.flatnonzero(is_bad.any(axis=1) & is_chosen)
        if len(rows):
            value = features[rows[0]][is_bad[rows[0]]][0]
            id_ = to_printable(ids[rows[0]].decode(errors="replace"))
            raise DatasetError(
                f"{to_printable(name)} of {self.path} holds {value} in the row with the id {id_!r}; expected finite "
                f"numbers that {self.dtype} can store"
            )
        return stored


def _take(rows: CachedRows, is_taken: np.ndarray) -> CachedRows:
    return CachedRows.from_arrays({name: array[is_taken] for name, array in rows.arrays().items()})


def _cut(waiting: list[CachedRows], shards: list[Shard]) -> Iterator[tuple[Shard, CachedRows]]:
    """Yield the shards that the waiting rows fill, and take both from their lists."""
    while shards and sum(len(rows.ids) for rows in waiting) >= shards[0].num_rows:
        parts = [rows.arrays() for rows in waiting]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        shard = shards.pop(0)
        yield shard, CachedRows.from_arrays({name: array[: shard.num_rows] for name, array in arrays.items()})
        waiting[:] = [CachedRows.from_arrays({name: array[shard.num_rows :] for name, array in arrays.items()})]
