"""Decoding image files with Pillow, to uint8 RGB."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tfl.errors import DatasetError

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def read_image(path: Path) -> np.ndarray:
    """An image file as `decode_image` gives it.

    Raises:
      DatasetError: it cannot be read or decoded; the message names it.
    """
    return decode_image(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """A file's content; a DatasetError names a file that cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read the image {path}: {error.strerror}") from error


def require_image(content: bytes, name: str) -> None:
    """Look at the header alone.

    Raises:
      DatasetError: it is no image, or claims more pixels than are safe to decode; the message names it.
    """
    _opened(content, name).close()


def decode_image(content: bytes, name: str) -> np.ndarray:
    """An encoded image as uint8 RGB `(h, w, 3)`: EXIF orientation applied, first frame, transparency dropped.

    Grey, palette, RGBA and CMYK are converted by Pillow; 16-bit grey is scaled to 8 bits.

    Raises:
      DatasetError: it cannot be decoded; the message names it.
    """
    from PIL import ImageOps

    with _opened(content, name) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion clips instead of scaling
                grey = np.round(np.clip(np.asarray(upright, np.float64), 0, 65535) / 257).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if upright.mode == "F":
                raise DatasetError(
                    f"the image {name} holds floating-point pixels, whose range is not known; convert it"
                )
            return np.array(upright.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise DatasetError(f"cannot decode the image {name}: {error}; repair or remove it") from error


def _opened(content: bytes, name: str) -> Any:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice its limit is an error
        try:
            return Image.open(io.BytesIO(content))
        except Image.DecompressionBombError as error:
            raise DatasetError(f"the image {name} claims more pixels than are safe to decode: {error}") from error
        except (OSError, SyntaxError, ValueError) as error:
            kind = "is empty" if not content else "is not an image that Pillow can read"
            raise DatasetError(f"{name} {kind}; repair or remove it") from error
