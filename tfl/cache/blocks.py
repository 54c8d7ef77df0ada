"""Reading an array of a cache file in blocks, in stored order or by chunks in a random one."""

from collections.abc import Iterable, Iterator

import h5py
import numpy as np


def pieces_of_blocks(
    num_stored: int, chunk_rows: int, num_rows: int, rng: np.random.Generator | None
) -> Iterator[list[tuple[int, int]]]:
    """Ranges of stored rows, for each block of `num_rows` rows; see `Cache.blocks`."""
    starts = np.arange(0, num_stored, chunk_rows)  # the first row of each chunk
    order = starts if rng is None else rng.permutation(starts)
    return _pieces(((start, min(start + chunk_rows, num_stored)) for start in order.tolist()), num_rows)


def _pieces(chunks: Iterable[tuple[int, int]], num_rows: int) -> Iterator[list[tuple[int, int]]]:
    """Cut ranges of rows, in the order given, into blocks of `num_rows` rows; a range may go on in the next block.

    In each block the ranges are sorted: the file is read forwards, and a chunk of labels, which covers many ranges,
    only once.
    """
    block: list[tuple[int, int]] = []
    room = num_rows
    for first, stop in chunks:
        start = first
        while start < stop:
            piece = (start, min(stop, start + room))
            block.append(piece)
            room -= piece[1] - start
            start = piece[1]
            if room == 0:
                yield sorted(block)
                block, room = [], num_rows
    if block:
        yield sorted(block)


def gather(dataset: h5py.Dataset, pieces: list[tuple[int, int]]) -> np.ndarray:
    """Some ranges of a dataset's rows, one after the other, read in place without a second copy."""
    rows = np.empty((sum(stop - start for start, stop in pieces), *dataset.shape[1:]), dataset.dtype)
    at = 0
    for start, stop in pieces:
        dataset.read_direct(rows, np.s_[start:stop], np.s_[at : at + stop - start])
        at += stop - start
    return rows
