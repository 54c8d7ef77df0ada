"""Import of features that were made elsewhere: a file's rows become a cache.

The file is read twice: its ids, roles and labels, which decide the cache's spec; then everything, a
block at a time, into the shards of the cache.
"""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfl import __version__, datasets
from tfl.cache import Cost, PartialCache, open_cache
from tfl.datasets.registry import require_divisible
from tfl.errors import DatasetError
from tfl.exchange import require_format
from tfl.exchange.column_names import ColumnNames, find_columns
from tfl.exchange.rows import FeatureRows
from tfl.exchange.stored_rows import NOT_CHOSEN, StoredRows
from tfl.exchange.table import Column, Table, count_block_rows
from tfl.files import hashing, trust
from tfl.files.paths import expand_user
from tfl.specs import DIGEST_PREFIX, CacheSpec, DatasetSpec, FeatureSpec, ImportSettings
from tfl.specs.features import IMPORTED

logger = logging.getLogger(__name__)

MAX_DESCRIPTION = 1 << 16  # characters of what a file says of its origin that are kept


def import_features(
    path: Path | str, dataset: DatasetSpec | None = None, settings: ImportSettings = ImportSettings()
) -> Path:
    """Make a cache of a Parquet or an .npz file of features that were made elsewhere.

    The file has a column `features`, one of `label` (integers or texts) and `class_name`, or both,
    and may have `id` and `role` (train, val, test). Without roles the rows are divided by the hashes of their
    ids, as images without splits are. A cache that is there already is kept.

    Args:
      dataset: how the rows are divided, and which columns hold what (its fields that end in `_key`);
        its field `dataset` is not used.

    Returns:
      The path of the cache file. Its backbone is `imported:<source>`, its weights are the sha256 of
      the file.

    Raises:
      SpecError: the file's name has another ending, or a setting means nothing for it.
      DatasetError: the file cannot be read, lacks a column, or has a bad value (the message names the
        row); or the splits lose classes and `settings.allow_missing_classes` is not set.
      CacheError: another process is making this cache, or the disk has no room.
      ExtraError: pyarrow is not installed.
    """
    source = _Source(expand_user(path), dataset or DatasetSpec(), settings)
    unfinished, final = source.unfinished, source.unfinished.path
    if final.exists():
        open_cache(final, expected=source.spec)
        logger.info("already there: %s", final)
        return final
    unfinished.require_storable(source.rows.class_names, source.describe())
    unfinished.require_room(source.num_features)
    with unfinished.hold():
        if not final.exists():  # else another process has made it since
            source.write_shards()
            unfinished.finish(source.rows.class_names, source.describe())
    return final


class _Source:
    """A file of features, looked through, and the cache that is made of it."""

    def __init__(self, path: Path, dataset: DatasetSpec, settings: ImportSettings) -> None:
        kind = require_format(path)
        kind.require()
        self.path = path
        self._state, digest = _hash(path)
        self._weights = _digest_column(digest, settings.features_key)
        self.table: Table = kind.open_table(path)
        self._names = find_columns(self.table, dataset, settings.features_key, str(path))
        self._name = settings.source or _find_source(self.table, path)
        named = replace(dataset, dataset=settings.name or path.stem)
        self.rows = FeatureRows(self.table, self._names, named, str(path))
        require_divisible(self.rows, named)
        self._dtype = _choose_dtype(self.table, self._names, path)
        self.spec = self._resolve(self.rows.choose_splits(named), settings)
        role_of_row = self._find_roles()
        num_rows = {role: int((role_of_row == place).sum()) for place, role in enumerate(self.spec.dataset.roles)}
        self._role_of_row = role_of_row
        making = {"shard_rows": count_block_rows([Column("vector", "float32", self.num_features)])}
        self.unfinished = PartialCache(settings.cache_dir / self.spec.file_name, self.spec, num_rows, making)

    @property
    def num_features(self) -> int:
        """Columns of the features, d."""
        return self.table.columns[self._names.features["original"]].width

    def _resolve(self, dataset: DatasetSpec, settings: ImportSettings) -> CacheSpec:
        rows = self.rows
        resolved = datasets.resolve_spec(dataset, rows)
        counts = datasets.count_labels(rows, resolved)
        datasets.require_coverage(
            counts or {},
            rows.class_names,
            title=f"the splits of {self.path} lose classes:",
            advice="choose others (--train-split, --test-fraction), or accept them: --allow-missing-classes",
            is_allowed=settings.allow_missing_classes,
        )
        # The dataset is never opened again: its digest says what the keys have found.
        keys: dict[str, Any] = dict.fromkeys(("label_key", "split_key", "id_key", "group_key"), "")
        features = FeatureSpec(backbone=IMPORTED + self._name, weights=self._weights, feature_dtype=self._dtype)
        return CacheSpec(features, replace(resolved, **keys), tuple(self._names.features))

    def _find_roles(self) -> np.ndarray:
        """Return the place of each row's role among those of the spec, `(n,)`."""
        roles = np.full(len(self.rows.labels_by_row), NOT_CHOSEN, np.uint8)
        for place, split in enumerate(self.spec.dataset.roles.values()):
            for piece in datasets.select_rows(self.rows, split):
                roles[self.rows.find_rows(piece.split)[piece.rows]] = place
        return roles

    def describe(self) -> dict[str, Any]:
        """Return the provenance of the cache."""
        place = str(self.path.resolve())
        said = {key: self.table.facts[key] for key in ("tfl", "spec") if key in self.table.facts}
        is_short = len(str(said)) <= MAX_DESCRIPTION
        return {
            "tfl": __version__,
            "typed": {"dataset": place, "weights": place},
            "imported": {"source": self._name, "rows": len(self.rows.labels_by_row), **(said if is_short else {})},
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def write_shards(self) -> None:
        """Write the shards that are missing.

        Raises:
          DatasetError: features are not finite, or the file has changed.
        """
        missing = set(self.unfinished.missing())
        rows = StoredRows(self.path, self.table, self._names, self._dtype, self.rows.labels_by_row)
        started = time.monotonic()
        for shard, filled in rows.fill_shards(self.unfinished.shards(), self._role_of_row):
            if shard in missing:
                self.unfinished.write(shard, filled, Cost(time.monotonic() - started, 0))
            started = time.monotonic()
        if trust.FileState.from_path(self.path) != self._state:
            raise DatasetError(f"{self.path} has changed while it was read; give the command again")


def _hash(path: Path) -> tuple[trust.FileState, str]:
    """Return a file's state, and its sha256 in hex.

    Raises:
      DatasetError: it is not there, or is no plain file.
    """
    if not path.exists():
        raise DatasetError(f"there is no file {path}")
    try:
        return trust.FileState.from_path(path), hashing.hash_file(path)
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def _digest_column(digest: str, features_key: str) -> str:
    """Return what stands for the backbone's weights: the digest of the file, or of one column among several."""
    if features_key != ImportSettings.features_key:
        digest = hashing.hash_bytes(f"{digest} {features_key}".encode())
    return DIGEST_PREFIX + digest


def _find_source(table: Table, path: Path) -> str:
    """Return the name of what made the features: the backbone that tfl noted, or the file's name."""
    backbone = table.facts.get("backbone")
    name = backbone.removeprefix(IMPORTED) if isinstance(backbone, str) else ""
    return ImportSettings(source=name or path.stem).source


def _choose_dtype(table: Table, names: ColumnNames, path: Path) -> Any:
    """Return the dtype of the cache's features: float16 if the file's are, else float32."""
    dtypes = {table.columns[name].dtype for name in names.features.values()}
    if "float64" in dtypes:
        logger.info("the features of %s are float64; they are stored as float32", path)
    return "float16" if dtypes == {"float16"} else "float32"
