"""A cache of random features, for what costs the same whatever the features are."""

from pathlib import Path

import numpy as np

from tfl.cache import CachedRows, Cost, PartialCache
from tfl.specs import CacheSpec, DatasetSpec, FeatureSpec, View

NUM_FEATURES = 2048  # of ResNet50
SHARD_ROWS = 1024
NUM_CLASSES = 10


def write_random_cache(folder: Path, num_rows: int, views: tuple[View, ...] = ("original",)) -> Path:
    """Write a cache of random features through the ordinary shards and merge, and return its path."""
    dataset = DatasetSpec("random", f"train[0:{num_rows}]", "", "", version="1")
    spec = CacheSpec(FeatureSpec(weights="sha256:" + "0" * 64), dataset, views)
    partial = PartialCache(folder / spec.file_name, spec, {"train": num_rows}, {"shard_rows": SHARD_ROWS})
    rng = np.random.default_rng(0)
    with partial.hold():
        for shard in partial.missing():
            rows = _random_rows(shard.start, shard.stop, views, rng)
            partial.write(shard, rows, Cost(0.0, len(rows.labels)))
        return partial.finish(tuple("abcdefghij"), {"typed": {"dataset": "random", "weights": "random"}})


def _random_rows(start: int, stop: int, views: tuple[View, ...], rng: np.random.Generator) -> CachedRows:
    count = stop - start
    ids = np.asarray([f"train_{row:05d}".encode() for row in range(start, stop)])
    labels = rng.integers(0, NUM_CLASSES, count)
    features = {view: rng.random((count, NUM_FEATURES), np.float32) for view in views}
    original = features.pop("original")
    return CachedRows(original, labels, ids, features)
