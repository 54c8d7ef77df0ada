"""Bounds on the size of images."""

from tfl.errors import SpecError

MAX_IMAGE_SIZE = 8192  # pixels; one image of float32 takes 800 MB, before any layer
MAX_IMAGE_PIXELS = 120_000_000
"""Default bound on height x width of one image file: photos of 108 megapixels pass. Decoded, such
an image takes 0.36 GB, and 1.4 GB as the float32 pixels that are resized."""


def require_max_image_pixels(count: int) -> None:
    """Refuse a bound that no image is within.

    Raises:
      SpecError: it is below 1.
    """
    if count < 1:
        raise SpecError(f"max_image_pixels is at least 1, got {count}")
