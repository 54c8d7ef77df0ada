"""Images of any sizes in batches that a model can take, and reading ahead."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")
NUM_IMAGES = 32
MAX_BYTES = 256 << 20  # of decoded images that are held at once


def ahead(reader: Executor, items: Iterator[Row]) -> Iterator[Row]:
    """The same items; the reader's thread gets the next one while the caller is at work on this one."""
    reading = reader.submit(next, items, None)
    while (item := reading.result()) is not None:
        reading = reader.submit(next, items, None)
        yield item


def chunked(rows: Iterable[Row], num_bytes_of: Callable[[Row], int], num_images: int) -> Iterator[list[Row]]:
    """Rows, `num_images` at a time, or fewer if their images are large."""
    chunk: list[Row] = []
    num_bytes = 0
    for row in rows:
        chunk.append(row)
        num_bytes += num_bytes_of(row)
        if len(chunk) == num_images or num_bytes > MAX_BYTES:
            yield chunk
            chunk, num_bytes = [], 0
    if chunk:
        yield chunk


def alike(images: Sequence[np.ndarray]) -> list[list[int]]:
    """Which images are of the same size: those can be one batch."""
    groups = defaultdict(list)
    for i, image in enumerate(images):
        groups[image.shape].append(i)
    return list(groups.values())
