"""What an audit keeps of each image: a thumbnail, a hash of its pixels, and its shorter side."""

import hashlib
import logging
from dataclasses import dataclass

import numpy as np

from tfl.artefacts.origin import Origin
from tfl.auditing.pixels import SIDE, make_thumbnail
from tfl.auditing.projection import Rows
from tfl.errors import TflError

logger = logging.getLogger(__name__)

BYTES_PER_IMAGE = SIDE * SIDE * 3 + 12


@dataclass(frozen=True)
class Images:
    """Every image of a cache, small.

    Attributes:
      thumbnails: uint8 `(n, 32, 32, 3)`.
      hashes: of each image's size and pixels, int64 `(n,)`.
      sides: pixels of the shorter side, int32 `(n,)`.
    """

    thumbnails: np.ndarray
    hashes: np.ndarray
    sides: np.ndarray


def read_images(origin: Origin, rows: Rows) -> Images | None:
    """Read every image once, by the dataset's own reader; None, with a warning, if the dataset is gone."""
    n = len(rows.labels)
    images = Images(np.empty((n, SIDE, SIDE, 3), np.uint8), np.empty(n, np.int64), np.empty(n, np.int32))
    place = 0
    try:
        for role in rows.roles:
            for example in origin.read_rows(role):
                images.thumbnails[place] = make_thumbnail(example.image)
                images.hashes[place] = _hash(example.image)
                images.sides[place] = min(example.image.shape[:2])
                place += 1
    except TflError as error:
        logger.warning("the images are not looked at, duplicates are told by features alone: %s", error)
        return None
    return images


def _hash(image: np.ndarray) -> int:
    content = np.ascontiguousarray(image)
    digest = hashlib.blake2b(b"%d %d " % image.shape[:2], digest_size=8)
    digest.update(content.data)
    return int.from_bytes(digest.digest(), "big", signed=True)
