"""One bound on the pixels that an image claims, held while Pillow reads its header."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TooManyPixelsError(Exception):
    """An image claims more pixels than the bound."""

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        super().__init__(f"{width} x {height} pixels are more than {max_pixels}")
        self.width, self.height, self.max_pixels = width, height, max_pixels


_bound = threading.local()
_lock = threading.Lock()


@contextmanager
def bounded(max_pixels: int) -> Iterator[None]:
    """Let Pillow open and decode images of up to `max_pixels` in this thread, whatever its own bound is.

    Pillow compares each size that it reads with `Image.MAX_IMAGE_PIXELS`, a global that belongs to the user's program:
    neither that value nor what other threads do with Pillow changes. Pillow 13 makes every comparison in one function,
    also for the frames of a GIF and the tiles of a TIFF; that function is replaced once by one that calls it wherever
    no bound of ours is set. Without such a function (a later Pillow), `require_size` still holds the bound.

    Raises:
      TooManyPixelsError: Pillow read a larger size within the context.
    """
    _replace_check()
    before = getattr(_bound, "max_pixels", None)
    _bound.max_pixels = max_pixels
    try:
        yield
    finally:
        _bound.max_pixels = before


def require_size(width: int, height: int, max_pixels: int) -> None:
    """Raise TooManyPixelsError where an image of this size has more than `max_pixels`."""
    if width * height > max_pixels:
        raise TooManyPixelsError(width, height, max_pixels)


def _replace_check() -> None:
    from PIL import Image

    with _lock:
        original = getattr(Image, "_decompression_bomb_check", None)
        if original is not None and not hasattr(original, "is_bounded"):
            Image._decompression_bomb_check = _checking(original)


def _checking(original: Any) -> Any:
    def check(size: tuple[int, int], **options: Any) -> None:
        max_pixels = getattr(_bound, "max_pixels", None)
        if max_pixels is None:
            original(size, **options)
        else:
            require_size(*size, max_pixels)

    check.is_bounded = True  # type: ignore[attr-defined]
    return check
