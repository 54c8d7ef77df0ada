"""Images to features: each content is computed once, in batches; what is in memory is taken from there."""

import logging
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfl.engine import keep_freed_memory
from tfl.machine.batching import parallel_map, split_into_batches
from tfl.sklearn.errors import EstimatorError
from tfl.sklearn.images import Image, Images
from tfl.sklearn.memory import MEMORY
from tfl.sklearn.network import Network

logger = logging.getLogger(__name__)

_lock = threading.RLock()  # a search may fit in several threads; they share the network and the memory


class _Missing(NamedTuple):
    """An image whose features have to be computed, for a row."""

    row: int
    image: Image


class _Decoded(NamedTuple):
    """The same with its pixels."""

    row: int
    digest: bytes
    pixels: np.ndarray


def compute_features(images: Images, network: Network, memory_limit: int) -> np.ndarray:
    """Return the features of images, float32 `(n, d)`.

    Args:
      memory_limit: most bytes of features that the process keeps for later calls.

    Raises:
      DatasetError: an image cannot be read.
      EstimatorError: a feature is not finite.
    """
    with _lock, keep_freed_memory():
        MEMORY.begin_call()
        return _Call(network, memory_limit, len(images)).run(images)


class _Call:
    """One call: rows that are being filled, and the first row of each content."""

    def __init__(self, network: Network, memory_limit: int, num_images: int) -> None:
        self._network = network
        self._memory_limit = memory_limit
        self._features = np.empty((num_images, network.num_features), np.float32)
        self._first_row: dict[bytes, int] = {}
        self._repeated: list[tuple[int, int]] = []
        self._num_not_kept = 0

    def run(self, images: Images) -> np.ndarray:
        missing = self._find_missing(images)
        decoded = map(self._decode, missing) if images.is_decoded else self._decode_in_threads(missing)
        for batch in split_into_batches(map(self._shrink, decoded), _count_bytes, self._network.batch_size):
            self._compute(batch)
        for row, first in self._repeated:
            self._features[row] = self._features[first]
        self._warn_of_limit()
        return self._features

    def _find_missing(self, images: Images) -> Iterator[_Missing]:
        """Fill in the features that are known, and yield the other images, each content once."""
        for row, image in enumerate(images):
            known = MEMORY.get((self._network.key, image.digest))
            if known is not None:
                self._features[row] = known
            elif image.digest in self._first_row:
                self._repeated.append((row, self._first_row[image.digest]))
            else:
                self._first_row[image.digest] = row
                yield _Missing(row, image)

    def _decode_in_threads(self, missing: Iterator[_Missing]) -> Iterator[_Decoded]:
        return parallel_map(self._decode, missing, lambda each: each.image.count_bytes())

    def _decode(self, missing: _Missing) -> _Decoded:
        return _Decoded(missing.row, missing.image.digest, missing.image.decode())

    def _shrink(self, decoded: _Decoded) -> _Decoded:
        return decoded._replace(pixels=self._network.shrink(decoded.pixels))

    def _compute(self, batch: list[_Decoded]) -> None:
        features = self._network.compute([each.pixels for each in batch])  # (m, d)
        _require_finite(features)
        for each, of_image in zip(batch, features, strict=True):
            self._features[each.row] = of_image
            is_kept = MEMORY.put((self._network.key, each.digest), of_image, self._memory_limit)
            self._num_not_kept += not is_kept

    def _warn_of_limit(self) -> None:
        if self._num_not_kept and self._memory_limit:
            logger.warning(
                "memory_limit %s holds the features of only some images: those of %s are computed anew each time",
                f"{self._memory_limit:,}",
                f"{self._num_not_kept:,}",
            )


def _count_bytes(decoded: _Decoded) -> int:
    return decoded.pixels.nbytes


def _require_finite(features: np.ndarray) -> None:
    if not np.isfinite(features).all():
        raise EstimatorError("the features of an image are not finite; try compute_dtype float32")
