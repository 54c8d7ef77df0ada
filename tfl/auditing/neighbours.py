"""The nearest rows of every row, by the cosine of whitened features: all pairs are compared, in blocks."""

from typing import Any

import numpy as np
from keras import ops

from tfl import engine
from tfl.engine.instructions import list_native_dtypes

NUM_NEIGHBOURS = 10
NUM_SPARE = 10  # found in addition where cosines are rounded to bfloat16, before the best are chosen in float32
BLOCK_BYTES = 128 << 20  # of the cosines of one block of rows, and of its neighbours' features
GROUP = 32  # rows whose largest cosine decides whether one of them can be among the nearest
LEAST_GROUPED = 4096  # rows, from which on groups pay
PADDING = -4.0  # cosine of what is no row


def find_neighbours(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest other rows of each of the rows `(n, r)`, which have length one.

    The k largest of a row's cosines lie in the k groups with the largest maxima: only those are
    sorted. Where the machine multiplies in bfloat16, cosines are rounded to it at first.

    Returns:
      Their cosines and their places `(n, k)` each, nearest first; k is at most `NUM_NEIGHBOURS`.
    """
    n = len(rows)
    dtype = "bfloat16" if engine.has_accelerator() or "bfloat16" in list_native_dtypes() else "float32"
    spare = NUM_SPARE if dtype == "bfloat16" else 0
    group = GROUP if n >= LEAST_GROUPED else 1
    k = min(NUM_NEIGHBOURS, n - 1)
    num_found = min(k + 1 + spare, n)
    compiled = engine.compile_function(_make_search(num_found, group))
    memory = ops.cast(ops.convert_to_tensor(_pad(rows, -n % group)), dtype)
    block_rows = max(1, BLOCK_BYTES // (4 * max(n, num_found * rows.shape[1])))
    cosines, places = np.empty((n, k), np.float32), np.empty((n, k), np.int32)
    for start in range(0, n, block_rows):
        block = rows[start : start + block_rows]  # (b, r)
        marked = np.concatenate([block, np.ones((len(block), 1), np.float32)], axis=1)  # (b, r + 1)
        found = np.asarray(ops.convert_to_numpy(compiled(ops.cast(ops.convert_to_tensor(marked), dtype), memory)))
        exact = np.einsum("br,bkr->bk", block, rows[found], optimize=True)  # (b, k + 1 + spare)
        exact[found == np.arange(start, start + len(block))[:, None]] = PADDING  # a row is no neighbour of its own
        order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
        stop = start + len(block)
        cosines[start:stop] = np.take_along_axis(exact, order, axis=1)
        places[start:stop] = np.take_along_axis(found, order, axis=1)
    return cosines, places


def _pad(rows: np.ndarray, count: int) -> np.ndarray:
    """Return rows with a column that is 0, and with rows after them whose cosine with any row is `PADDING`."""
    padded = np.zeros((len(rows) + count, rows.shape[1] + 1), np.float32)
    padded[: len(rows), :-1] = rows
    padded[len(rows) :, -1] = PADDING
    return padded


def _make_search(k: int, group: int) -> Any:
    """Return a function of a block `(b, r)` and a memory `(n, r)`: the places of the k largest products, `(b, k)`."""

    def search(block: Any, memory: Any) -> Any:
        cosines = ops.matmul(block, ops.transpose(memory))  # (b, r) @ (r, n)
        if group == 1:
            return ops.top_k(ops.cast(cosines, "float32"), k)[1]
        num_groups = memory.shape[0] // group
        grouped = ops.reshape(cosines, (-1, group, num_groups))  # (b, g, n / g)
        _, groups = ops.top_k(ops.cast(ops.max(grouped, axis=1), "float32"), k)  # (b, k)
        chosen = ops.take_along_axis(grouped, groups[:, None, :], axis=2)  # (b, g, k)
        _, best = ops.top_k(ops.cast(ops.reshape(chosen, (-1, group * k)), "float32"), k)  # (b, k)
        return best // k * num_groups + ops.take_along_axis(groups, best % k, axis=1)

    return search
