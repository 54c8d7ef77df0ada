"""Images and labels as people have them in memory, as uint8 RGB and numbers of classes.

Values are converted only where their meaning is certain: a float array may hold 0..1, 0..255, or
what a network's own preprocessing made of it. Whatever is taken is logged; everything else is
refused with what to write instead.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfl.datasets.array_labels import convert_labels
from tfl.datasets.images import convert_opened, read_image
from tfl.datasets.npz_layout import MIN_WIDTH, advise_on_shape
from tfl.datasets.pixel_range import MIN_BRIGHTEST, PixelRange
from tfl.errors import DatasetError
from tfl.text import to_one_line

__all__ = ["ImageConverter", "convert_images", "convert_labels", "list_blocks", "to_array"]

BLOCK_BYTES = 16 << 20  # of one array's images that are converted together

logger = logging.getLogger(__name__)


def convert_images(images: Any) -> np.ndarray | list[np.ndarray]:
    """Return images as uint8 RGB.

    Args:
      images: an array `(n, h, w, 3)`, or grey `(n, h, w)` or `(n, h, w, 1)`: uint8, booleans, whole
        numbers in 0..255, or floats in 0..1 or 0..255; a PyTorch tensor may be `(n, c, h, w)`. Or a
        list of arrays without the first axis, of opened Pillow images, or of paths of image files.

    Returns:
      `(n, h, w, 3)`; a list of `(h, w, 3)` if the images differ in size. The input is not changed.

    Raises:
      DatasetError: the shape is that of no images, or the meaning of the values is not certain.
    """
    converter = ImageConverter()
    converter.measure(images)
    blocks = [converter.convert(block) for block in list_blocks(images)]
    converter.log()
    if len({block.shape[1:] for block in blocks}) > 1:
        return [image for block in blocks for image in block]
    return np.concatenate(blocks) if blocks else np.zeros((0, 0, 0, 3), np.uint8)


class ImageConverter:
    """Conversion of blocks of images to uint8 RGB, where one range of values holds for all blocks.

    The first block decides the range, unless `measure` was given all images before.

    Attributes:
      has_moved_channels: whether images had their channels first, for the log.
    """

    def __init__(self) -> None:
        self._range = PixelRange()
        self._shapes: set[str] = set()
        self.has_moved_channels = False

    def measure(self, images: Any) -> None:
        """Decide the range of values from all of these images.

        Raises:
          DatasetError: see `convert_images`.
        """
        items, are_batches = (images, False) if _is_list(images) else ([images], True)
        self.has_moved_channels |= any(has_channels_first(item, are_batches) for item in items)
        for block in list_blocks(images, needs_files=False):
            _require_shape(block)
            self._range.measure(block)
        self._range.decide()

    def convert(self, images: np.ndarray) -> np.ndarray:
        """Return images `(n, h, w)` or `(n, h, w, c)` as uint8 `(n, h, w, 3)`.

        Raises:
          DatasetError: see `convert_images`; or the range is not that of the blocks before.
        """
        _require_shape(images)
        if images.ndim == 3:
            images = images[..., None]  # (n, h, w, 1)
        self._shapes.add("grey" if images.shape[-1] == 1 else "colour")
        pixels = self._range.to_uint8(images)
        return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels  # (n, h, w, 3)

    def log(self) -> None:
        """Log in one line what the images were taken for, and why."""
        colours = " and ".join(sorted(self._shapes))
        order = ", channels first, as PyTorch has them" if self.has_moved_channels else ""
        logger.info("images: %s, %s%s", colours or "none", self._range.describe(), order)
        if self._range.is_dark:
            logger.warning(
                "the images are nearly black: no value is above %d of 255; if another value than 255 is white, divide "
                "them by it",
                MIN_BRIGHTEST,
            )


def list_blocks(images: Any, needs_files: bool = True) -> Iterator[np.ndarray]:
    """Yield images in blocks `(k, h, w)` or `(k, h, w, c)`: parts of one array, or one image of a list at a time.

    Args:
      needs_files: whether to read files and opened images too, whose values are uint8 in any case.

    Raises:
      DatasetError: it is neither an array nor a list of images.
    """
    if isinstance(images, str | bytes | os.PathLike):
        raise DatasetError(
            f"images is {os.fsdecode(images)!r}; expected an array or a list. A folder, an .npz file or a table is "
            "opened by its name: tfl.DatasetSpec(NAME)"
        )
    if hasattr(images, "to_numpy"):  # a column of pandas
        images = images.to_numpy()
    if _is_list(images):
        for item in images:
            if needs_files or not _is_file(item):
                yield to_array(item, is_batch=False)[None]  # (1, h, w[, c])
        return
    if not hasattr(images, "shape"):
        images = to_array(images, is_batch=True)
    if len(images.shape) < 3:
        _require_shape(to_array(images))
    length = max(1, BLOCK_BYTES // max(1, to_array(images[:1], is_batch=True).nbytes))
    for start in range(0, len(images), length):  # of a file of HDF5, a slice at a time
        yield to_array(images[start : start + length], is_batch=True)


def to_array(images: Any, is_batch: bool | None = None) -> np.ndarray:
    """Return one image, or an array of them, as numpy's array; the channels of PyTorch's tensors come last.

    Args:
      is_batch: whether the first axis is that of several images; None if it is not known.

    Raises:
      DatasetError: it is no array of numbers, or an image file cannot be read.
    """
    if isinstance(images, str | os.PathLike):
        return read_image(Path(images))
    if _is_opened_image(images):
        return _convert_opened(images)
    if hasattr(images, "detach"):  # PyTorch, whatever the device
        array = np.asarray(images.detach().cpu())
        return np.moveaxis(array, -3, -1) if has_channels_first(images, is_batch) else array
    try:
        array = np.asarray(images)
    except (ValueError, TypeError) as error:  # lists of rows of several lengths
        raise DatasetError(f"images are no array: {error}; expected numbers (h, w, 3) of each image") from error
    if array.dtype.kind not in "buif":
        raise DatasetError(f"images are {array.dtype} {array.shape}; expected numbers, of uint8 or float")
    return array


def _convert_opened(image: Any) -> np.ndarray:
    """Return an image that Pillow opened, uint8 `(h, w, 3)`."""
    try:
        return convert_opened(image)
    except (ValueError, OSError, SyntaxError) as error:  # Pillow reads the file only now
        raise DatasetError(f"cannot use an image that Pillow opened: {to_one_line(error)}") from error


def has_channels_first(images: Any, is_batch: bool | None = None) -> bool:
    """Return whether this is a PyTorch tensor `(c, h, w)` or `(n, c, h, w)` of one channel or three.

    Args:
      is_batch: see `to_array`.
    """
    shape = tuple(images.shape) if hasattr(images, "detach") else ()
    if len(shape) not in (3, 4) or is_batch is (len(shape) == 3):  # grey without a channel
        return False
    return shape[-3] in (1, 3) and not (len(shape) == 3 and shape[-1] in (1, 3))


def _is_list(images: Any) -> bool:
    """Return whether these are images one by one, not one array (nor rows of numbers, which numpy reads)."""
    if isinstance(images, np.ndarray):
        return images.dtype.kind in "OUS"
    return isinstance(images, list | tuple)


def _is_file(image: Any) -> bool:
    return isinstance(image, str | os.PathLike) or _is_opened_image(image)


def _is_opened_image(image: Any) -> bool:
    """Return whether this is an image that Pillow opened."""
    return hasattr(image, "getexif") and hasattr(image, "convert")


def _require_shape(images: np.ndarray) -> None:
    """Refuse an array that is not `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`.

    Raises:
      DatasetError: the shape, what was expected, and how to convert it if that is known.
    """
    shape = images.shape
    is_grey = len(shape) == 3 and shape[2] >= MIN_WIDTH
    has_channels = len(shape) == 4 and shape[3] in (1, 3)
    if not (is_grey or has_channels) or 0 in shape[1:]:
        raise DatasetError(
            f"images are {images.dtype} {shape}; expected (n, h, w, 3), or grey (n, h, w, 1) or (n, h, w)"
            f"{advise_on_shape(shape)}"
        )
