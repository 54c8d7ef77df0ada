"""Items prepared ahead by other threads, and images of any size in batches that a model can take."""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")
BATCH_SIZE = 32
MAX_BATCH_BYTES = 256 << 20  # of decoded images in memory at once


def prefetch(reader: Executor, items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items; the reader's thread gets the next one while the caller works on this one."""
    reading = reader.submit(next, items, None)
    while (item := reading.result()) is not None:
        reading = reader.submit(next, items, None)
        yield item


def count_processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    num_bytes_of: Callable[[Item], int],
    max_bytes: int = MAX_BATCH_BYTES,
    num_threads: int = 0,
) -> Iterator[Result]:
    """Yield the result of `work` for each item, in order, computed by `num_threads` threads.

    Two items for each thread are begun before they are asked for, or fewer that take `max_bytes` together.

    Args:
      num_threads: 0 stands for one thread for each processor.
    """
    num_threads = num_threads or count_processors()
    begun: deque[tuple[Future[Result], int]] = deque()
    bytes_begun = 0
    workers = ThreadPoolExecutor(num_threads)
    try:
        for item in items:
            num_bytes = num_bytes_of(item)
            while begun and (len(begun) == 2 * num_threads or bytes_begun + num_bytes > max_bytes):
                result, bytes_of_result = begun.popleft()
                bytes_begun -= bytes_of_result
                yield result.result()
            begun.append((workers.submit(work, item), num_bytes))
            bytes_begun += num_bytes
        while begun:
            yield begun.popleft()[0].result()
    finally:
        workers.shutdown(cancel_futures=True)


def split_into_batches(
    rows: Iterable[Item], num_bytes_of: Callable[[Item], int], batch_size: int
) -> Iterator[list[Item]]:
    """Yield `batch_size` rows at a time, or fewer if their images are large."""
    batch: list[Item] = []
    num_bytes = 0
    for row in rows:
        batch.append(row)
        num_bytes += num_bytes_of(row)
        if len(batch) == batch_size or num_bytes > MAX_BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def group_by_shape(images: Sequence[np.ndarray]) -> list[list[int]]:
    """Return the indices of the images of each shape, which can be one batch."""
    groups = defaultdict(list)
    for index, image in enumerate(images):
        groups[image.shape].append(index)
    return list(groups.values())
