"""Checks of plain values; each names the field and the value that it refuses."""

import math
from typing import Any

from tfl.errors import SpecError

MAX_BATCH_SIZE = 1 << 16  # memory is taken for whole batches, however few rows there are


def require_at_least(least: int, **values: int) -> None:
    """Refuse a value below `least`."""
    for name, value in values.items():
        if value < least:
            raise SpecError(f"{name} is at least {least}, got {value}")


def require_batch_size(batch_size: int) -> None:
    """Refuse a batch size that is not positive, or too large for any machine."""
    if not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise SpecError(f"batch_size is 1 to {MAX_BATCH_SIZE:,}, got {batch_size}")


def require_positive(**values: float) -> None:
    """Refuse zero and negative values."""
    for name, value in values.items():
        if not value > 0:
            raise SpecError(f"{name} is positive, got {value}")


def require_share(**values: float) -> None:
    """Refuse values outside [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise SpecError(f"{name} is in [0, 1), got {value}")


def require_some(**values: tuple[Any, ...]) -> None:
    """Refuse an empty tuple."""
    for name, value in values.items():
        if not value:
            raise SpecError(f"{name} needs at least one value, got none")


def require_finite(settings: Any) -> None:
    """Refuse a field of a dataclass that is NaN or infinite, or holds such a value."""
    for name, value in vars(settings).items():
        values = value if isinstance(value, tuple) else (value,)
        floats = [each for each in values if isinstance(each, float)]
        if not all(map(math.isfinite, floats)):
            raise SpecError(f"{name} is finite, got {' '.join(map(str, values))}")
