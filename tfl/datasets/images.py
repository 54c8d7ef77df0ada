"""Decoding image files with Pillow, to uint8 RGB."""

import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tfl.datasets import bit_depth, heif, pixel_limit
from tfl.datasets.pillow import open_image, too_large_error, undecodable_error
from tfl.datasets.source import to_text
from tfl.datasets.truncation import has_whole_end
from tfl.errors import DatasetError
from tfl.specs import MAX_IMAGE_PIXELS

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Suffixes of the formats that Pillow reads without pillow-heif; see `image_suffixes`."""
_WITH_HEIF = IMAGE_SUFFIXES | heif.SUFFIXES


def image_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the image files that can be read with the packages installed here."""
    return _WITH_HEIF if heif.is_readable() else IMAGE_SUFFIXES


def read_image(path: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Return an image file as `decode_image` does.

    Raises:
      DatasetError: it cannot be read or decoded; the message names it.
    """
    return decode_image(read_bytes(path), to_text(path), max_pixels)


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
      DatasetError: it cannot be read, or is not a regular file: a pipe may never end, and is not
        opened.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = _describe_kind(mode)
            raise DatasetError(f"cannot read the image {to_text(path)}: it is {kind}; expected a regular file")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read the image {to_text(path)}: {error.strerror}") from error


def _describe_kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a named pipe" if stat.S_ISFIFO(mode) else "a socket or a device"


def is_image(content: bytes) -> bool:
    """Return whether a content begins like an image that can be read here, of any size; nothing is decoded."""
    try:
        with open_image(content, "", max_pixels=sys.maxsize):
            return True
    except DatasetError:
        return False


def require_image(content: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> int:
    """Refuse what is not a usable image, by its header; decode only a file that may be truncated.

    Returns:
      Its bytes when decoded.

    Raises:
      DatasetError: it is no image, is truncated, or claims more than `max_pixels`; the message
        names it.
    """
    if not has_whole_end(content):
        return decode_image(content, name, max_pixels).nbytes
    with open_image(content, name, max_pixels) as image:
        return 3 * int(image.width) * int(image.height)


def decode_image(content: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Decode an image to uint8 RGB `(h, w, 3)`: EXIF orientation applied, first frame only, transparency dropped.

    Pillow converts grey, palette, RGBA and CMYK; grey of 12 and 16 bits is scaled to 8. Samples
    without a known range (floating point, signed and 32-bit integers) are refused.

    Args:
      max_pixels: most pixels (height x width) that its header may claim; a larger image is not
        decoded.

    Raises:
      DatasetError: it cannot be decoded, or claims more than `max_pixels`; the message names it.
    """
    with open_image(content, name, max_pixels) as image:
        try:
            return convert_opened(image)
        except pixel_limit.TooManyPixelsError as error:  # from a frame or a tile, which is read later than the header
            raise too_large_error(name, error) from error
        except MemoryError as error:  # not a fault of the image
            raise MemoryError(f"the image {name} takes more than there is; make it smaller, or remove it") from error
        # For damaged files Pillow 13 raises what its authors foresaw (OSError, SyntaxError,
        # ValueError) and what they did not: RuntimeError and ZeroDivisionError from AVIF, TypeError
        # from TIFF, struct.error and TypeError from rewriting EXIF. No list would be complete for
        # the next Pillow.
        except Exception as error:
            raise undecodable_error(name, error) from error


def convert_opened(image: Any) -> np.ndarray:
    """Return an image that Pillow has opened as `decode_image` does, uint8 RGB `(h, w, 3)`.

    Raises:
      ValueError: the range of its samples is not known.
    """
    from PIL import ImageOps

    grey = bit_depth.find_deep_grey(image)  # before the image is turned upright, which loses the file's tags
    upright = ImageOps.exif_transpose(image)
    if grey is not None:
        return np.repeat(grey.to_uint8(np.asarray(upright))[:, :, None], 3, axis=2)  # (h, w, 3)
    if upright.mode == "La":  # grey with premultiplied alpha, which Pillow converts only to LA
        upright = upright.convert("LA")
    return np.array(upright.convert("RGB"))  # (h, w, 3)
