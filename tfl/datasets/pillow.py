"""Opening images with Pillow: which formats, how many pixels, and no warnings."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tfl.datasets import heif, pixel_limit
from tfl.errors import DatasetError
from tfl.text import to_one_line

# Pillow goes by the content, not the name. Of the formats it knows, these are decoded by Pillow
# itself (for PostScript, for instance, it would start Ghostscript).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")


class _Silence:
    """Ignore warnings while any thread is inside.

    Each thread's own `catch_warnings` would not do: threads would undo one another's filters.
    """

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
def open_image(content: bytes, name: str, max_pixels: int) -> Iterator[Any]:
    """Yield Pillow's image with its header read; Pillow's warnings are ignored until it is closed.

    They are about metadata that is not used: whether an image is usable must not depend on them,
    nor on a filter that turns warnings into errors.

    Raises:
      DatasetError: it is no image, or claims more than `max_pixels`; the message names it.
    """
    from PIL import Image, UnidentifiedImageError

    with _silence, pixel_limit.limit_pixels(max_pixels):
        try:
            Image.init()
            image = Image.open(io.BytesIO(content), formats=_list_formats(content))
            pixel_limit.require_size(*image.size, max_pixels)
        except pixel_limit.TooManyPixelsError as error:
            raise too_large_error(name, error) from error
        except UnidentifiedImageError as error:
            raise DatasetError(f"{name} {_describe(content)}; repair or remove it") from error
        except Exception as error:  # Pillow raises more than it documents for damaged headers: see `decode_image`
            raise undecodable_error(name, error) from error
        with image:
            yield image


def too_large_error(name: str, error: pixel_limit.TooManyPixelsError) -> DatasetError:
    """Return the error for an image with too many pixels."""
    return DatasetError(
        f"the image {name} claims more pixels than are safe to decode: {error.width:,} x {error.height:,}, at most "
        f"{error.max_pixels:,} are decoded; make it smaller, remove it, or raise --max-image-pixels"
    )


def undecodable_error(name: str, error: Exception) -> DatasetError:
    """Return the error for an image that Pillow could not decode."""
    reason = to_one_line(error)
    return DatasetError(f"cannot decode the image {name}: {reason}; repair or remove it")


def _list_formats(content: bytes) -> list[str]:
    """Return Pillow's names of the formats to try; the decoders of HEIF and AVIF would take one another's files."""
    from PIL import Image

    if heif.is_heif(content) and heif.is_readable():
        return [heif.FORMAT]
    return [name for name in FORMATS if name in Image.OPEN]


def _describe(content: bytes) -> str:
    if not content:
        return "is empty"
    if heif.is_heif(content) and not heif.is_readable():
        return f"is not an image that Pillow can read alone ({heif.HINT})"
    return "is not an image that Pillow can read"
