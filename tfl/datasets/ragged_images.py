"""Images of several sizes in one flat array of an .npz file."""

import numpy as np

from tfl.datasets.stored_array import StoredArray
from tfl.errors import DatasetError

CHANNELS = 3


class RaggedImages:
    """RGB images one after the other, read by row.

    Args:
      name: of the file, for messages.
      pixels: uint8 `(total,)`, row after row of one image after the other.
      sizes: int64 `(n, 2)`, height and width of each image.

    Raises:
      DatasetError: the sizes are not those of the pixels.
    """

    def __init__(self, name: str, pixels: "np.ndarray | StoredArray", sizes: np.ndarray) -> None:
        self._pixels, self._sizes = pixels, sizes
        smallest = sizes.min(initial=1)
        if smallest < 1:
            raise DatasetError(f"{name} holds an image of the height or width {smallest}; expected 1 or more pixels")
        lengths = [height * width * CHANNELS for height, width in sizes.tolist()]  # in Python, no number overflows
        if sum(lengths) != len(pixels):
            raise DatasetError(
                f"{name} holds {len(pixels):,} bytes of images, and their sizes are of {sum(lengths):,}; write it again"
            )
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])  # (n + 1,)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return one image, uint8 `(h, w, 3)`."""
        pixels = self._pixels[int(self._starts[row]) : int(self._starts[row + 1])]
        return pixels.reshape(*self._sizes[row].tolist(), CHANNELS)
