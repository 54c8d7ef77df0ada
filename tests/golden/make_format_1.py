"""How `format-1.h5` was made, once: 150 and 40 rows of 6 features; it is not made again while the format is 1.

python tests/golden/make_format_1.py
"""

from pathlib import Path

import numpy as np

from tfl.cache import CachedRows, Cost, PartialCache, merge
from tfl.specs import CacheSpec, DatasetSpec, FeatureSpec

SPEC = CacheSpec(
    FeatureSpec(weights="sha256:" + "ab" * 32), DatasetSpec("golden", "train[0:150]", "", "test[0:40]", version="1")
)
NUM_ROWS = {"train": 150, "test": 40}
CLASS_NAMES = ("cat", "dog", "żaba")
TYPED = {"dataset": "golden", "weights": "imagenet"}


def rows(role: str, start: int, stop: int) -> CachedRows:
    """Features that anybody can compute: row i, column j holds (i + j / 8) / 4, plus 100 in the test rows."""
    index = np.arange(start, stop)
    features = (index[:, None] + np.arange(6) / 8) / 4 + (100 if role == "test" else 0)
    ids = [f"{role}/{'ż' if i % 50 == 49 else 'z'}{i}.png".encode() for i in index]
    return CachedRows(features.astype(np.float32), index % 3, np.asarray(ids))


if __name__ == "__main__":
    path = Path(__file__).with_name("format-1.h5")
    merge.CHUNK_BYTES = 512  # several chunks in a small file
    partial = PartialCache(path, SPEC, NUM_ROWS, {"engine": "none", "shard_rows": 64})
    with partial.hold():
        for shard in partial.missing():
            partial.write(shard, rows(*shard), Cost(0.25, shard.stop - shard.start))
        partial.finish(CLASS_NAMES, {"engine": "none", "typed": TYPED})
