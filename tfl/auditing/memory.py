"""The columns of the whitened features that a bound on memory allows."""

from tfl import engine
from tfl.auditing.images import BYTES_PER_IMAGE
from tfl.auditing.neighbours import BLOCK_BYTES, NUM_NEIGHBOURS
from tfl.cache import Cache
from tfl.errors import RunError

MAX_COLUMNS = 1024
LEAST_COLUMNS = 32
BYTES_PER_COLUMN = 4 + 4 + 2  # float32, as it is padded, and on the device
AVAILABLE_SHARE = 0.75
GIB = 1 << 30


def choose_columns(cache: Cache, max_gib: float) -> int:
    """Return how many columns of whitened features fit: half of the cache's and at most `MAX_COLUMNS`, or fewer.

    Args:
      max_gib: bound on the arrays of the audit; 0 for three quarters of the memory that is free.

    Raises:
      RunError: not even `LEAST_COLUMNS` fit.
    """
    bound = max_gib * GIB if max_gib else AVAILABLE_SHARE * engine.available_memory()
    rows, d = sum(cache.num_rows.values()), cache.num_features
    each = BYTES_PER_IMAGE + 16 * cache.num_classes + 100 * NUM_NEIGHBOURS
    fixed = 8 * BLOCK_BYTES + 6 * 8 * d * d + rows * each
    wanted = min(MAX_COLUMNS, max(d // 2, LEAST_COLUMNS), d)
    fitting = int((bound - fixed) / (rows * BYTES_PER_COLUMN))
    least = min(LEAST_COLUMNS, wanted)
    if fitting < least:
        needed = (fixed + rows * BYTES_PER_COLUMN * least) / GIB
        raise RunError(
            f"an audit of {rows:,} images of {d:,} features takes at least {needed:.1f} GiB of memory, and "
            f"{bound / GIB:.1f} GiB are allowed or free; raise --max-memory, or audit a cache of fewer images"
        )
    return min(wanted, fitting)
