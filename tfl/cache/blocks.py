"""Blocks of an array of a cache file, in stored order or with its chunks in random order."""

from collections.abc import Iterable, Iterator

import h5py
import numpy as np


def plan_blocks(
    num_stored: int, chunk_rows: int, num_rows: int, rng: np.random.Generator | None
) -> Iterator[list[tuple[int, int]]]:
    """Yield the ranges of stored rows that make up each block; see `Cache.blocks`."""
    starts = np.arange(0, num_stored, chunk_rows)  # the first row of each chunk
    order = starts if rng is None else rng.permutation(starts)
    chunks = ((start, min(start + chunk_rows, num_stored)) for start in order.tolist())
    return _cut(chunks, num_rows)


def _cut(chunks: Iterable[tuple[int, int]], num_rows: int) -> Iterator[list[tuple[int, int]]]:
    """Cut chunks, in their order, into blocks; a chunk may continue in the next block.

    In each block the ranges are sorted, so that the file is read forwards, and a chunk of labels,
    which covers many ranges, only once.
    """
    block: list[tuple[int, int]] = []
    room = num_rows
    for first, stop in chunks:
        start = first
        while start < stop:
            end = min(stop, start + room)
            block.append((start, end))
            room -= end - start
            start = end
            if room == 0:
                yield sorted(block)
                block, room = [], num_rows
    if block:
        yield sorted(block)


def read_ranges(dataset: h5py.Dataset, ranges: list[tuple[int, int]]) -> np.ndarray:
    """Read ranges of a dataset's rows into one array, without a second copy."""
    num_rows = sum(stop - start for start, stop in ranges)
    rows = np.empty((num_rows, *dataset.shape[1:]), dataset.dtype)
    at = 0
    for start, stop in ranges:
        dataset.read_direct(rows, np.s_[start:stop], np.s_[at : at + stop - start])
        at += stop - start
    return rows
