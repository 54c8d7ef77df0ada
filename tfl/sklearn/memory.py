"""Features of images that were seen before, kept in this process up to a limit of bytes.

scikit-learn copies an estimator for every fit of a search, and gives the copies the same images
again. So the features belong to the process, not to an estimator. Their key is the content of the
image, with the network that computed them.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

logger = logging.getLogger(__name__)

ROW_OVERHEAD = 400  # bytes of Python objects beside the numbers of a row, about

Key = tuple[str, bytes]  # the network, and the sha256 of the image


@dataclass
class _Row:
    features: np.ndarray  # (d,)
    last_call: int

    @property
    def num_bytes(self) -> int:
        return self.features.nbytes + ROW_OVERHEAD


class FeatureMemory:
    """Rows of features by key; the one that was used least recently is first.

    Attributes:
      num_bytes: of all rows together.
    """

    def __init__(self) -> None:
        self._rows: OrderedDict[Key, _Row] = OrderedDict()
        self._call = 0
        self.num_bytes = 0

    def begin_call(self) -> None:
        """Begin a call: rows that it uses are not removed before it ends.

        Otherwise, a search over more images than the memory holds would always remove the very rows
        that it asks for next, and keep none.
        """
        self._call += 1

    def get(self, key: Key) -> np.ndarray | None:
        """Return the features of an image `(d,)`, or None if they are not kept."""
        row = self._rows.get(key)
        if row is None:
            return None
        row.last_call = self._call
        self._rows.move_to_end(key)
        return row.features

    def put(self, key: Key, features: np.ndarray, limit: int) -> bool:
        """Keep a copy of an image's features `(d,)` if all rows together then take at most `limit` bytes.

        Older rows make room. Return whether the features are kept.
        """
        row = _Row(features.copy(), self._call)  # a view would hold its whole batch
        if row.num_bytes > limit:
            return False
        self._remove_older(limit - row.num_bytes)
        if self.num_bytes + row.num_bytes > limit:
            return False
        self._rows[key] = row
        self.num_bytes += row.num_bytes
        return True

    def clear(self) -> None:
        """Remove all rows."""
        self._rows.clear()
        self.num_bytes = 0

    def _remove_older(self, limit: int) -> None:
        """Remove rows of earlier calls until the others take at most `limit` bytes."""
        while self.num_bytes > limit and self._rows:
            key, row = next(iter(self._rows.items()))
            if row.last_call == self._call:
                return
            del self._rows[key]
            self.num_bytes -= row.num_bytes


MEMORY = FeatureMemory()


def forget_features() -> None:
    """Free the memory that holds the features of images seen before."""
    MEMORY.clear()
