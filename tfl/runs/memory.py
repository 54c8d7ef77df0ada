"""Memory that a training takes, estimated before it begins."""

import numpy as np

from tfl import engine
from tfl.cache import Cache
from tfl.errors import RunError
from tfl.heads.selection import select_views
from tfl.specs.training import Selection

WORKING_BYTES = 256 << 20  # what does not grow with the features


def count_feature_bytes(cache: Cache, num_views: int) -> int:
    """Return the bytes of the float32 features to train and to choose on."""
    num_rows = sum(cache.num_rows.get(role, 0) for role in ("train", "val"))
    return num_rows * num_views * cache.num_features * np.dtype(np.float32).itemsize


def count_copied_bytes(cache: Cache, selection: Selection, copies: tuple[float, float]) -> int:
    """Return the bytes of copies of the features.

    Args:
      copies: of one view's features, and how many more for each view.
    """
    fixed, per_view = copies
    num_views = len(select_views(cache, selection))
    return int((fixed + per_view * num_views) * count_feature_bytes(cache, 1))


def estimate_bytes(cache: Cache, selection: Selection, copies: tuple[float, float]) -> int:
    """Return the main memory that a training takes beyond what this process has.

    Args:
      copies: see `count_copied_bytes`.
    """
    return WORKING_BYTES + count_copied_bytes(cache, selection, copies)


def require_memory(cache: Cache, what: str, selection: Selection, copies: tuple[float, float]) -> None:
    """Refuse what needs all rows in memory at once if they do not fit.

    Args:
      what: would be run, in words.
      copies: see `count_copied_bytes`.

    Raises:
      RunError: says how much memory is needed and how much is available.
    """
    needed, available = estimate_bytes(cache, selection, copies), engine.available_memory()
    if needed > available:
        raise RunError(
            f"{what} needs about {needed:,} bytes of memory for the features in {cache.path}, and {available:,} are "
            "available; the recipe reference reads them from the file, or precompute fewer --layers or a smaller slice"
        )
