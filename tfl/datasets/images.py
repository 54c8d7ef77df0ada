"""Decoding image files with Pillow, to uint8 RGB."""

import io
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tfl.datasets import depth, heif, pixels
from tfl.datasets.source import to_text
from tfl.errors import DatasetError
from tfl.specs import MAX_IMAGE_PIXELS

# Pillow goes by the content, whatever the name: of all that it knows, those that it decodes itself (not PostScript, for
# instance, for which it would start Ghostscript).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Of the formats that Pillow reads alone; see `image_suffixes`."""
_WITH_HEIF = IMAGE_SUFFIXES | heif.SUFFIXES


def image_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the files that are images by their names, with what is installed here."""
    return _WITH_HEIF if heif.is_readable() else IMAGE_SUFFIXES


def read_image(path: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """An image file as `decode_image` gives it.

    Raises:
      DatasetError: it cannot be read or decoded; the message names it.
    """
    return decode_image(read_bytes(path), to_text(path), max_pixels)


def read_bytes(path: Path) -> bytes:
    """A file's content; a DatasetError names a file that cannot be read, and one that may never end, unopened."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise DatasetError(f"cannot read the image {to_text(path)}: it is {_kind(mode)}; expected a regular file")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read the image {to_text(path)}: {error.strerror}") from error


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a named pipe" if stat.S_ISFIFO(mode) else "a socket or a device"


def is_image(content: bytes) -> bool:
    """Whether a content begins as an image that can be read here does, of whatever size; nothing is decoded."""
    try:
        with _opened(content, "", max_pixels=sys.maxsize):
            return True
    except DatasetError:
        return False


def require_image(content: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> int:
    """Look at the header, and decode only what does not end as a whole file does: it may be cut short.

    Returns:
      How many bytes it decodes to.

    Raises:
      DatasetError: it is no image, is cut short, or claims more than `max_pixels`; the message names it.
    """
    if not _ends_whole(content):
        return decode_image(content, name, max_pixels).nbytes
    with _opened(content, name, max_pixels) as image:
        return 3 * int(image.width) * int(image.height)


def decode_image(content: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """An encoded image as uint8 RGB `(h, w, 3)`: EXIF orientation applied, first frame, transparency dropped.

    Grey, palette, RGBA and CMYK are converted by Pillow; grey of 12 and 16 bits is scaled to 8. What has no certain
    range (floating point, signed and 32-bit integers) is refused.

    Args:
      max_pixels: most pixels (height x width) that its header may claim; a larger image is not decoded.

    Raises:
      DatasetError: it cannot be decoded, or claims more than `max_pixels`; the message names it.
    """
    with _opened(content, name, max_pixels) as image:
        try:
            return _upright_rgb(image)
        except pixels.TooManyPixelsError as error:  # of a frame or a tile, which is read later than the header
            raise _too_large(name, error) from error
        except MemoryError as error:  # says nothing of the image
            raise MemoryError(f"the image {name} takes more than there is; make it smaller, or remove it") from error
        # Of damaged files Pillow 13 raises what its authors foresaw (OSError, SyntaxError, ValueError) and what they
        # did not: RuntimeError and ZeroDivisionError from AVIF, TypeError from TIFF, struct.error and TypeError from
        # rewriting EXIF. No list would be complete for the next Pillow.
        except Exception as error:
            raise _undecodable(name, error) from error


def _upright_rgb(image: Any) -> np.ndarray:
    from PIL import ImageOps

    grey = depth.deep_grey(image)  # asked first, for the upright image has lost the file's tags
    upright = ImageOps.exif_transpose(image)
    if grey is not None:
        return np.repeat(grey.to_uint8(np.asarray(upright))[:, :, None], 3, axis=2)
    if upright.mode == "La":  # grey with associated alpha, which Pillow converts to LA alone
        upright = upright.convert("LA")
    return np.array(upright.convert("RGB"))


class _Silence:
    """No warnings while any thread is inside: threads that each caught their own would undo one another's filters."""

    def __init__(self) -> None:
        self._lock, self._num_inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._caught = warnings.catch_warnings(action="ignore")
                self._caught.__enter__()
            self._num_inside += 1

    def __exit__(self, *raised: Any) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._caught.__exit__(*raised)


_silence = _Silence()


@contextmanager
def _opened(content: bytes, name: str, max_pixels: int) -> Iterator[Any]:
    """Pillow's image, its header read; Pillow's warnings are silent as long as it is open.

    They are of metadata that is not used: whether an image is usable does not depend on them, nor on a filter that
    makes warnings errors.
    """
    from PIL import Image, UnidentifiedImageError

    with _silence, pixels.bounded(max_pixels):
        try:
            Image.init()
            image = Image.open(io.BytesIO(content), formats=_formats(content))
            pixels.require_size(*image.size, max_pixels)
        except pixels.TooManyPixelsError as error:
            raise _too_large(name, error) from error
        except UnidentifiedImageError as error:
            raise DatasetError(f"{name} {_what_it_is(content)}; repair or remove it") from error
        except Exception as error:  # of damaged headers too Pillow raises more than it says: see `decode_image`
            raise _undecodable(name, error) from error
        with image:
            yield image


def _formats(content: bytes) -> list[str]:
    """Return Pillow's names of the formats to try; HEIF and AVIF would take one another's files."""
    from PIL import Image

    if heif.is_heif(content) and heif.is_readable():
        return [heif.FORMAT]
    return [name for name in FORMATS if name in Image.OPEN]


def _what_it_is(content: bytes) -> str:
    if not content:
        return "is empty"
    if heif.is_heif(content) and not heif.is_readable():
        return f"is not an image that Pillow can read alone ({heif.HINT})"
    return "is not an image that Pillow can read"


def _too_large(name: str, error: pixels.TooManyPixelsError) -> DatasetError:
    return DatasetError(
        f"the image {name} claims more pixels than are safe to decode: {error.width:,} x {error.height:,}, at most "
        f"{error.max_pixels:,} are decoded; make it smaller, remove it, or raise --max-image-pixels"
    )


def _undecodable(name: str, error: Exception) -> DatasetError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DatasetError(f"cannot decode the image {name}: {reason}; repair or remove it")


_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": bytes.fromhex("00000000 49454E44 AE426082"), b"GIF8": b"\x3b"}
"""How JPEG, PNG (its IEND chunk) and GIF begin and end."""
_MOST_BOXES = 64


def _ends_whole(content: bytes) -> bool:
    """Whether the end is there by its looks, which a file cut short has only by chance."""
    if content.startswith(b"RIFF"):  # WebP says its length after these four bytes
        return int.from_bytes(content[4:8], "little") + 8 <= len(content)
    if content[4:8] == b"ftyp":
        return _boxes_end_whole(content)
    return any(content.startswith(start) and content.endswith(end) for start, end in _ENDS.items())


def _boxes_end_whole(content: bytes) -> bool:
    """Whether HEIF's or AVIF's boxes, of which each says its length, end where the file does (ISO/IEC 14496-12)."""
    start = 0
    for _ in range(_MOST_BOXES):
        num_bytes = int.from_bytes(content[start : start + 4], "big")
        if num_bytes == 1:  # the length follows the box's type
            num_bytes = int.from_bytes(content[start + 8 : start + 16], "big")
        if num_bytes < 8:  # 0 is a box that goes to the end, wherever that is
            return False
        start += num_bytes
        if start >= len(content):
            break
    return start == len(content)
