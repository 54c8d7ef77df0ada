"""Images of any sizes in batches that a model can take, and reading ahead."""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")
Made = TypeVar("Made")
BATCH_SIZE = 32
MAX_BATCH_BYTES = 256 << 20  # of decoded images that are held at once


def prefetch(reader: Executor, items: Iterator[Row]) -> Iterator[Row]:
    """The same items; the reader's thread gets the next one while the caller is at work on this one."""
    reading = reader.submit(next, items, None)
    while (item := reading.result()) is not None:
        reading = reader.submit(next, items, None)
        yield item


def count_processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    work: Callable[[Row], Made], items: Iterable[Row], num_bytes_of: Callable[[Row], int], most: int = MAX_BATCH_BYTES
) -> Iterator[Made]:
    """What `work` makes of each item, in their order, made by as many threads as there are processors.

    Two items for each thread are begun before they are asked for, or fewer that take `most` bytes together.
    """
    num_threads = count_processors()
    begun: deque[tuple[Future[Made], int]] = deque()
    held = 0
    workers = ThreadPoolExecutor(num_threads)
    try:
        for item in items:
            num_bytes = num_bytes_of(item)
            while begun and (len(begun) == 2 * num_threads or held + num_bytes > most):
                made, of_made = begun.popleft()
                held -= of_made
                yield made.result()
            begun.append((workers.submit(work, item), num_bytes))
            held += num_bytes
        while begun:
            yield begun.popleft()[0].result()
    finally:
        workers.shutdown(cancel_futures=True)


def split_into_batches(rows: Iterable[Row], num_bytes_of: Callable[[Row], int], num_images: int) -> Iterator[list[Row]]:
    """Rows, `num_images` at a time, or fewer if their images are large."""
    chunk: list[Row] = []
    num_bytes = 0
    for row in rows:
        chunk.append(row)
        num_bytes += num_bytes_of(row)
        if len(chunk) == num_images or num_bytes > MAX_BATCH_BYTES:
            yield chunk
            chunk, num_bytes = [], 0
    if chunk:
        yield chunk


def group_by_shape(images: Sequence[np.ndarray]) -> list[list[int]]:
    """Which images are of the same size: those can be one batch."""
    groups = defaultdict(list)
    for i, image in enumerate(images):
        groups[image.shape].append(i)
    return list(groups.values())
