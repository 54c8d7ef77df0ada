"""Features that a model is asked about, read from a file in blocks."""

from collections.abc import Iterator

import numpy as np

from tfl import datasets
from tfl.artefacts.inputs import Image
from tfl.errors import DatasetError, SpecError
from tfl.exchange import FORMATS, require_format
from tfl.exchange.cached import FEATURES
from tfl.exchange.rows import read_ids
from tfl.exchange.table import Table

BLOCK_ROWS = 1024  # of an answer


def read_features(file: Image, num_features: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield the ids and the features, float32 `(m, d)`, of a file's rows; rows without ids have their numbers.

    Raises:
      SpecError: it is no file of features.
      DatasetError: it has no column `features` of `num_features` numbers, or a number is not finite.
    """
    if file.content is not None or file.path.suffix not in FORMATS:
        name = "standard input" if file.content is not None else datasets.to_text(file.path)
        raise SpecError(
            f"this model takes features of {num_features:,} columns and no images, got {name}; expected files ending "
            f"in {' or '.join(FORMATS)}"
        )
    kind = require_format(file.path)
    kind.require()
    table = kind.open_table(file.path)
    where = datasets.to_text(file.path)
    _require_features(table, num_features, where)
    ids = next((name for name in ("id", "ids") if name in table.columns), "")
    start = 0
    for block in table.blocks([*([ids] if ids else []), FEATURES]):
        features = np.asarray(block[FEATURES])
        names = [id_.decode() for id_ in read_ids(block, ids, start, len(features))]
        for first in range(0, len(features), BLOCK_ROWS):
            part = np.array(features[first : first + BLOCK_ROWS], np.float32)  # a copy: PyTorch may write into it
            _require_finite(part, names[first:], where)
            yield names[first : first + BLOCK_ROWS], part
        start += len(features)


def _require_features(table: Table, num_features: int, where: str) -> None:
    if FEATURES not in table.columns:
        raise DatasetError(f"{where} has no column {FEATURES}; it has {', '.join(table.columns) or 'none'}")
    column = table.columns[FEATURES]
    if column.kind != "vector" or column.width != num_features:
        received = f"{column.width:,} numbers" if column.kind == "vector" else column.dtype or column.kind
        raise DatasetError(f"{FEATURES} of {where} has {received} a row; this model takes {num_features:,}")


def _require_finite(features: np.ndarray, names: list[str], where: str) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise DatasetError(f"{FEATURES} of {where} holds a number that is not finite in the row {names[bad[0]]!r}")
