"""Images to classify, decoded a few at a time so that large ones do not fill the memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfl import datasets
from tfl.artefacts.inputs import Image
from tfl.errors import DatasetError
from tfl.machine import batching

WINDOW_BYTES = 64 << 20  # of decoded images that wait for an answer, among which those of one size are found


@dataclass(frozen=True)
class Decoded:
    """An image in memory.

    Attributes:
      pixels: uint8 `(h, w, 3)`; None if it could not be decoded.
      error: why not.
    """

    path: Path
    pixels: np.ndarray | None
    error: str = ""

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return 0 if self.pixels is None else self.pixels.nbytes


def decode_windows(images: Iterable[Image], max_image_pixels: int) -> Iterator[list[Decoded]]:
    """Yield decoded images, as many together as one batch has, or fewer that take WINDOW_BYTES.

    An image that would exceed WINDOW_BYTES starts a new window, so a large one comes alone.
    """
    window: list[Decoded] = []
    num_bytes = 0
    for image in images:
        decoded = _decode(image, max_image_pixels)
        if window and num_bytes + decoded.num_bytes > WINDOW_BYTES:
            yield window
            window, num_bytes = [], 0
        window.append(decoded)
        num_bytes += decoded.num_bytes
        del decoded  # the caller may clear the window to free it
        if len(window) == batching.BATCH_SIZE or num_bytes > WINDOW_BYTES:
            yield window
            window, num_bytes = [], 0
    if window:
        yield window


def _decode(image: Image, max_image_pixels: int) -> Decoded:
    try:
        if image.content is None:
            return Decoded(image.path, datasets.read_image(image.path, max_image_pixels))
        return Decoded(image.path, datasets.decode_image(image.content, str(image.path), max_image_pixels))
    except DatasetError as error:
        return Decoded(image.path, None, str(error))
    except MemoryError as error:
        reason = str(error) or f"too little memory to read {datasets.to_text(image.path)}"
        return Decoded(image.path, None, reason)
