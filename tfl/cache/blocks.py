"""Reading an array of a cache file in blocks, in stored order or by chunks in a random one."""

from collections.abc import Iterable, Iterator

import h5py
import numpy as np


def pieces_of_blocks(
    num_stored: int, chunk_rows: int, num_rows: int, rng: np.random.Generator | None
) -> Iterator[list[tuple[int, int]]]:
    """Ranges of stored rows, for each block of `num_rows` rows; see `Cache.blocks`."""
    order = np.arange(-(-num_stored // chunk_rows))
    if rng is not None:
        order = _spread(len(order), -(-num_stored // num_rows), rng)
    starts = (order * chunk_rows).tolist()
    return _pieces(((start, min(start + chunk_rows, num_stored)) for start in starts), num_rows)


def _spread(num_chunks: int, num_blocks: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of chunks in which each of `num_blocks` equal parts has one chunk of every stretch of the file.

    Image folders are stored class by class: without this the classes of a block are as uneven as chance makes them.
    """
    stretch = np.arange(num_chunks) // num_blocks  # stretches of `num_blocks` neighbouring chunks
    shuffled = np.lexsort((rng.random(num_chunks), stretch))  # stretches in order, each shuffled in itself
    parts = [rng.permutation(shuffled[i::num_blocks]) for i in range(num_blocks)]
    return np.concatenate([parts[i] for i in rng.permutation(num_blocks)])


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
