"""The range of an opened image's samples: which number is white, by what the file says of itself."""

from typing import Any, NamedTuple

import numpy as np

WHITE_16 = 65535
WHITE_12 = 4095

# TIFF 6.0: tags, and values of theirs
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2

_NEXT = "convert it to unsigned 8 or 16 bits"


class Grey(NamedTuple):
    """How grey samples of more than 8 bits are scaled."""

    white: int
    is_white_zero: bool = False

    def to_uint8(self, samples: np.ndarray) -> np.ndarray:
        """Scale `samples` of any shape, 0 to `white`, to uint8."""
        scaled = np.round(np.clip(np.asarray(samples, np.float64), 0, self.white) * (255 / self.white))
        grey: np.ndarray = scaled.astype(np.uint8)
        return 255 - grey if self.is_white_zero else grey


def deep_grey(image: Any) -> Grey | None:
    """Return how to scale an opened image's grey samples, or None where Pillow's own conversion is right.

    Raises:
      ValueError: the samples' range is not certain.
    """
    if image.mode == "F":
        raise ValueError(f"it holds floating-point pixels, whose range is not known; {_NEXT}")
    if image.format == "TIFF":
        return _deep_grey_of_tiff(image)
    if not image.mode.startswith("I"):
        return None
    if image.format in ("PNG", "PPM"):  # of PPM, Pillow has scaled the file's own `maxval` to this
        return Grey(WHITE_16)
    raise ValueError(f"it holds integers of mode {image.mode}, whose range is not known; {_NEXT}")


def _deep_grey_of_tiff(image: Any) -> Grey | None:
    bits = tuple(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    if _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,)):
        raise ValueError(f"it holds signed integers of {bits[0]} bits, whose range is not known; {_NEXT}")
    if not image.mode.startswith("I"):
        return None
    white = {(12,): WHITE_12, (16,): WHITE_16}.get(bits)
    if white is None:
        raise ValueError(f"it holds integers of {bits[0]} bits, whose range is not known; {_NEXT}")
    # Pillow 13 turns white-is-zero round for up to 8 bits, and not for 16.
    return Grey(white, image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
