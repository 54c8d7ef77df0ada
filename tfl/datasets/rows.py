"""Reading and counting the rows that a split expression selects."""

from collections.abc import Iterable, Iterator

import numpy as np

from tfl.datasets.source import BadImage, Dataset, Example
from tfl.datasets.splits import select_rows
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec, Role


def read_rows(dataset: Dataset, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
    """Yield rows `start` to `stop` of what a split expression selects, counted from its first row."""
    offset = 0
    for piece in select_rows(dataset, split):
        count = len(piece.rows)
        begin, end = max(start - offset, 0), min(stop - offset, count)
        if begin < end:
            yield from piece.read(dataset, begin, end)
        offset += count


def count_rows(dataset: Dataset, split: str) -> int:
    """Return how many images a split expression selects."""
    return sum(len(piece.rows) for piece in select_rows(dataset, split))


def list_bad_images(dataset: Dataset, split: str) -> list[BadImage]:
    """Return the images of a split expression that were found unusable when the dataset was opened."""
    found: list[BadImage] = []
    for piece in select_rows(dataset, split):
        found.extend(piece.list_bad(dataset))
    return found


def count_labels(dataset: Dataset, spec: DatasetSpec) -> dict[Role, np.ndarray] | None:
    """Return the rows of each class, `(c,)`, for each role; None if labels come only with the images."""
    counts: dict[Role, np.ndarray] = {}
    for role, split in spec.roles.items():
        total = np.zeros(len(dataset.class_names), np.int64)
        for piece in select_rows(dataset, split):
            labels = dataset.labels(piece.split)  # (n,)
            if labels is None:
                return None
            total += np.bincount(labels[piece.rows], minlength=len(total))
        counts[role] = total
    return counts


def require_good_images(items: Iterable[Example | BadImage]) -> Iterator[Example]:
    """Yield the images, all of which are needed.

    Raises:
      DatasetError: the reason of the first bad image.
    """
    for item in items:
        if isinstance(item, BadImage):
            raise DatasetError(item.reason)
        yield item
