"""The rows of a file of features as a dataset without images: ids, roles, labels and a division."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from tfl.cache import MAX_ID_BYTES, UniqueIds
from tfl.datasets import BadImage, Dataset, Example
from tfl.datasets.division import ALL, Division, hash_key
from tfl.errors import DatasetError
from tfl.exchange.classes import Classes, read_declared
from tfl.exchange.column_names import ColumnNames
from tfl.exchange.table import Block, Table
from tfl.specs import DIGEST_PREFIX, ROLES, DatasetSpec
from tfl.text import to_printable

NO_ROLE = 255


class FeatureRows(Dataset):
    """The rows of a file, read once without their features.

    The splits are the roles that the file names. Without them there is the one split `all`, which
    is divided by the hashes of the ids, or of the groups. The version is a digest of ids, roles or
    groups, labels and class names: two files with other features of the same images are of one dataset.

    Raises:
      DatasetError: an id, a role or a label is wrong; the message names the row.
    """

    def __init__(self, table: Table, names: ColumnNames, spec: DatasetSpec, where: str) -> None:
        self.name = spec.dataset
        self._table, self._names, self._where, self._seed = table, names, where, spec.split_seed
        self._digest, self._unique = hashlib.sha256(), UniqueIds()
        self._roles, self._hashes = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint64)]
        classes = Classes(where, read_declared(table.facts, where))
        start = 0
        for block in table.blocks(names.of_rows):
            start += self._add(block, classes, start)
        if not start:
            raise DatasetError(f"{where} has no rows")
        self.class_names, self._labels = classes.finish()
        self._digest.update(json.dumps(self.class_names).encode() + self._labels.astype("<i8").tobytes())
        self.version = DIGEST_PREFIX + self._digest.hexdigest()
        self._divide(start, spec)

    def _add(self, block: Block, classes: Classes, start: int) -> int:
        """Add a block's rows, and return how many they are."""
        names = self._names
        labels = block[names.label] if names.label else None
        texts = block[names.class_name] if names.class_name else None
        count = len(block[names.label or names.class_name])
        assert isinstance(labels, np.ndarray | None)
        assert isinstance(texts, list | None)
        classes.add(labels, texts, start)
        ids = read_ids(block, names.id, start, count)
        self._require_ids(ids, start)
        roles = self._read_roles(block, start) if names.role else [NO_ROLE] * count
        self._roles.append(np.asarray(roles, np.uint8))
        for role, id_ in zip(roles, ids, strict=True):
            self._digest.update(b"%d %d:%s\n" % (role, len(id_), id_))
        if not names.role:
            keys = read_ids(block, names.group or names.id, start, count)
            if names.group:  # they decide the parts
                self._digest.update(b"".join(b"group %d:%s\n" % (len(key), key) for key in keys))
            self._hashes.append(np.asarray([hash_key(key, self._seed) for key in keys], np.uint64))
        return count

    def _require_ids(self, ids: list[bytes], start: int) -> None:
        for row, id_ in enumerate(ids):
            if not id_ or b"\0" in id_ or len(id_) > MAX_ID_BYTES:
                raise DatasetError(
                    f"{self._where} has the id {to_printable(id_[:80].decode(errors='replace'))!r} of {len(id_)} bytes "
                    f"in row {start + row}; expected 1 to {MAX_ID_BYTES} bytes without zero bytes"
                )
        repeated = self._unique.add(np.asarray(ids, "S"))
        if repeated is not None:
            raise DatasetError(f"{self._where} has the id {repeated!r} in two rows; every row needs its own")

    def _read_roles(self, block: Block, start: int) -> list[int]:
        places = {role: place for place, role in enumerate(ROLES)}
        roles = list(block[self._names.role])
        for row, role in enumerate(roles):
            if role not in places:
                raise DatasetError(
                    f"{self._where} has the role {to_printable(str(role))!r} in row {start + row}; expected one of "
                    f"{', '.join(ROLES)}"
                )
        return [places[role] for role in roles]

    def _divide(self, count: int, spec: DatasetSpec) -> None:
        """Set the splits, and the file's rows of each."""
        self._hash_of_row = np.concatenate(self._hashes)
        if not self._names.role:
            self.division = Division.from_spec(spec)
            self._rows = {ALL: np.arange(count)}
        else:
            roles = np.concatenate(self._roles)
            of_role = {role: np.flatnonzero(roles == place) for place, role in enumerate(ROLES)}
            self._rows = {role: rows for role, rows in of_role.items() if len(rows)}
        self.num_rows = {split: len(rows) for split, rows in self._rows.items()}

    @property
    def labels_by_row(self) -> np.ndarray:
        """The label of every row of the file, `(n,)`."""
        return self._labels

    def choose_splits(self, spec: DatasetSpec) -> DatasetSpec:
        """Return the spec with the roles that the file has as its splits, where the user named no others."""
        default = DatasetSpec()
        if self.division is not None:
            return spec
        splits: dict[str, Any] = {}
        for role in ROLES:
            field = f"{role}_split"
            if getattr(spec, field) == getattr(default, field):
                splits[field] = role if role in self.num_rows else ""
        return replace(spec, **splits)

    def find_rows(self, split: str) -> np.ndarray:
        """Return the file's rows of a split, ascending, `(n,)`."""
        return self._rows[split]

    def labels(self, split: str) -> np.ndarray:
        """Return the label of every row of a split."""
        return np.asarray(self._labels[self._rows[split]])

    def id_hashes(self, split: str) -> np.ndarray | None:
        """Return the hash of every row's id or group, if the file names no roles."""
        return self._hash_of_row if self.division is not None else None

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
        """Refuse: there are no images."""
        raise DatasetError(f"{self._where} holds features and no images")


def read_ids(block: Block, name: str, start: int, count: int) -> list[bytes]:
    """Return the ids of a block's rows; the rows' numbers if no column has ids."""
    if not name:
        return [b"%08d" % row for row in range(start, start + count)]
    return [str(value).encode(errors="backslashreplace") for value in chain(block[name])]
