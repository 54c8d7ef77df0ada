"""The range of an image's samples: which number is white, according to the file."""

from typing import Any, NamedTuple

import numpy as np

WHITE_16 = 65535
WHITE_12 = 4095

# TIFF 6.0: tags, and values that they have
_BITS_PER_SAMPLE, _PHOTOMETRIC, _COLOR_MAP, _SAMPLE_FORMAT = 258, 262, 320, 339
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2

_NEXT = "convert it to unsigned 8 or 16 bits"


class Grey(NamedTuple):
    """The range of grey samples of more than 8 bits."""

    white: int
    is_white_zero: bool = False

    def to_uint8(self, samples: np.ndarray) -> np.ndarray:
        """Scale integer `samples` of any shape from 0..`white` to uint8; samples outside become black or white."""
        greys = np.round(np.arange(self.white + 1) * (255 / self.white)).astype(np.uint8)
        if self.is_white_zero:
            greys = 255 - greys
        return np.take(greys, samples, mode="clip")


def find_deep_grey(image: Any) -> Grey | None:
    """Return how to scale an opened image's grey samples, or None if Pillow's own conversion is right.

    Raises:
      ValueError: the samples' range is not known.
    """
    if image.mode == "F":
        raise ValueError(f"it holds floating-point pixels, whose range is not known; {_NEXT}")
    if image.format == "TIFF":
        return _find_tiff_grey(image)
    if not image.mode.startswith("I"):
        return None
    if image.format in ("PNG", "PPM"):  # in PPM, Pillow has scaled the file's own `maxval` to this
        return Grey(WHITE_16)
    raise ValueError(f"it holds integers of mode {image.mode}, whose range is not known; {_NEXT}")


def _find_tiff_grey(image: Any) -> Grey | None:
    tags = image.tag_v2
    bits = tuple(tags.get(_BITS_PER_SAMPLE, (1,)))
    if _SIGNED in tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)):
        raise ValueError(f"it holds signed integers of {bits[0]} bits, whose range is not known; {_NEXT}")
    if _PHOTOMETRIC not in tags:
        raise ValueError("it does not say whether 0 is black or white (PhotometricInterpretation); save it again")
    if image.mode.startswith("P") and 0 < max(tags.get(_COLOR_MAP, (0,))) < 256:
        raise ValueError("its colour map has 8 bits, and the format's have 16; save it again")
    if not image.mode.startswith("I"):
        return None
    white = {(12,): WHITE_12, (16,): WHITE_16}.get(bits)
    if white is None:
        raise ValueError(f"it holds integers of {bits[0]} bits, whose range is not known; {_NEXT}")
    # Pillow 13 inverts white-is-zero samples of up to 8 bits, but not of 16: see
    # tests/test_depth.py, `16 bits, white is zero`.
    return Grey(white, tags[_PHOTOMETRIC] == _WHITE_IS_ZERO)
