"""Assembly of shards: from computed features, copied rows, and images that are left out."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from tfl.cache import MAX_ID_BYTES, CachedRows, CopiedRows, ReusableCaches, Shard, UniqueIds
from tfl.datasets import BadImage, Example
from tfl.errors import CacheError, DatasetError
from tfl.specs import FeatureSpec, View


class AssembledShard(NamedTuple):
    """A shard that is ready to be written."""

    shard: Shard
    rows: CachedRows
    skipped: list[BadImage]
    copied: list[CopiedRows]


class ShardAssembly:
    """A shard whose images are being read and computed.

    Attributes:
      labels: by id, in the order of the rows.
      features: by view and id, `(d,)` each; in any order, and without those that will be copied.
    """

    def __init__(self, shard: Shard, views: tuple[View, ...]) -> None:
        self.shard = shard
        self.labels: dict[bytes, int] = {}
        self.features: dict[View, dict[bytes, np.ndarray]] = {view: {} for view in views}
        self.skipped: list[BadImage] = []

    def add_image(self, example: Example, class_names: tuple[str, ...]) -> bytes:
        """Add an image's id and label; return the id.

        Raises:
          DatasetError: see `check_example`.
        """
        id_ = check_example(example, self.labels, class_names)
        self.labels[id_] = example.label
        return id_

    def assemble(self, reusable: ReusableCaches, num_features: int, dtype: str) -> AssembledShard:
        """Copy the missing features, and put everything into rows of `num_features` columns."""
        copied: list[CopiedRows] = []
        for view, features in self.features.items():
            missing = [id_ for id_ in self.labels if id_ not in features]
            held, origins = reusable.read(missing, view)
            features.update(held)
            copied += origins
        matrices = {view: self._to_matrix(view, num_features, dtype) for view in self.features}
        original = matrices.pop("original")
        labels = np.asarray(list(self.labels.values()), np.int64)
        ids = np.asarray(list(self.labels), "S")
        return AssembledShard(self.shard, CachedRows(original, labels, ids, matrices), self.skipped, copied)

    def _to_matrix(self, view: View, num_features: int, dtype: str) -> np.ndarray:
        features = self.features[view]
        matrix = np.empty((len(self.labels), num_features), dtype)  # (n, d)
        for row, id_ in enumerate(self.labels):
            matrix[row] = features[id_]
        return matrix


def require_unique(ids: UniqueIds, shard: AssembledShard) -> None:
    """Refuse a shard with an id of an earlier one; the merge checks those of earlier processes.

    Raises:
      DatasetError: the id.
    """
    repeated = ids.add(shard.rows.ids)
    if repeated is not None:
        raise DatasetError(f"the id {repeated!r} appears in two rows; ids are unique over all roles")


def check_example(example: Example, seen: Collection[bytes], class_names: tuple[str, ...]) -> bytes:
    """Return an example's id as bytes; refuse at once what the merge would refuse at the end.

    Raises:
      DatasetError: its id is among those seen or too long, or its label is not that of a class.
    """
    id_ = example.id.encode()
    if id_ in seen:
        raise DatasetError(f"the id {example.id!r} appears in two rows; ids are unique over all roles")
    if len(id_) > MAX_ID_BYTES:
        raise DatasetError(f"the id {example.id[:80]!r}... has {len(id_)} bytes; at most {MAX_ID_BYTES} are stored")
    if not 0 <= example.label < len(class_names):
        raise DatasetError(
            f"image {example.id!r} has label {example.label}; expected 0 to {len(class_names) - 1} for the classes "
            f"{', '.join(class_names[:10])} (a split without labels, perhaps: leave it out with an empty split)"
        )
    return id_


def to_stored(features: np.ndarray, examples: list[Example], spec: FeatureSpec) -> dict[bytes, np.ndarray]:
    """Return a batch's features by id, `(d,)` each, in the dtype of the file.

    Args:
      features: float32 `(n, d)` of these examples.

    Raises:
      CacheError: a feature is not finite, or not in that dtype.
    """
    with np.errstate(over="ignore"):
        stored = features.astype(spec.feature_dtype)  # (n, d)
    is_finite = np.isfinite(stored)
    if not is_finite.all():
        row = int(np.argmin(is_finite.all(axis=1)))
        value = features[row][~is_finite[row]][0]
        raise CacheError(
            f"the features of image {examples[row].id!r} hold {value}, which {stored.dtype} cannot store as a finite "
            "number; try --feature-dtype float32 or --compute-dtype float32"
        )
    ids = [example.id.encode() for example in examples]
    return dict(zip(ids, stored, strict=True))
