"""Noticing an id that stands in two rows, in 8 bytes an id."""

import numpy as np


class UniqueIds:
    """Finds an id that was added before, by its 64-bit hash: among ten million ids, wrongly once in 300,000 jobs."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.int64)  # sorted

    def add(self, ids: np.ndarray) -> str | None:
        """Add ids `(n,)` of bytes.

        Returns:
          One that stands among them twice or had been added before, if there is one.
        """
        new = np.fromiter((hash(id_) for id_ in ids.tolist()), np.int64, len(ids))
        order = np.argsort(new, kind="stable")
        repeated = np.zeros(len(new), bool)
        repeated[order[1:]] = new[order][1:] == new[order][:-1]
        if len(self._hashes):
            places = np.searchsorted(self._hashes, new).clip(max=len(self._hashes) - 1)
            repeated |= self._hashes[places] == new
        self._hashes = np.sort(np.concatenate([self._hashes, new]), kind="stable")
        return ids[repeated.argmax()].decode(errors="backslashreplace") if repeated.any() else None
