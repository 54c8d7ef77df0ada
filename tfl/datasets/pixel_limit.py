"""A limit on the pixels that an image may claim, in force while Pillow reads it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TooManyPixelsError(Exception):
    """An image claims more pixels than the limit."""

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        super().__init__(f"{width} x {height} pixels are more than {max_pixels}")
        self.width, self.height, self.max_pixels = width, height, max_pixels


_limit = threading.local()
_lock = threading.Lock()


@contextmanager
def limit_pixels(max_pixels: int) -> Iterator[None]:
    """Let Pillow open and decode images of up to `max_pixels` in this thread, whatever Pillow's own limit is.

    Pillow compares each size that it reads with `Image.MAX_IMAGE_PIXELS`, a global that belongs to
    the user's program. That value stays as it is, and so does Pillow for other threads. Pillow 13
    makes every comparison in one function, also for the frames of a GIF and the tiles of a TIFF. It
    is replaced once, by a function that calls it unless a limit of ours is in force. If a later
    Pillow has no such function, `require_size` still applies the limit.

    Raises:
      TooManyPixelsError: Pillow read a larger size within the context.
    """
    _replace_check()
    before = getattr(_limit, "max_pixels", None)
    _limit.max_pixels = max_pixels
    try:
        yield
    finally:
        _limit.max_pixels = before


def require_size(width: int, height: int, max_pixels: int) -> None:
    """Raise TooManyPixelsError if an image of this size has more than `max_pixels`."""
    if width * height > max_pixels:
        raise TooManyPixelsError(width, height, max_pixels)


def _replace_check() -> None:
    from PIL import Image

    with _lock:
        original = getattr(Image, "_decompression_bomb_check", None)
        if original is not None and not hasattr(original, "has_limit"):
            Image._decompression_bomb_check = _wrap_check(original)


def _wrap_check(original: Any) -> Any:
    def check(size: tuple[int, int], **options: Any) -> None:
        max_pixels = getattr(_limit, "max_pixels", None)
        if max_pixels is None:
            original(size, **options)
        else:
            require_size(*size, max_pixels)

    check.has_limit = True  # type: ignore[attr-defined]
    return check
