"""The range of pixels in memory: which value is white."""

from typing import Any, NamedTuple

import numpy as np

from tfl.errors import DatasetError

WHITE = 255
HALF_LEVEL = 0.5 / 255  # of white; resampling and rounding lead this far out of a range
MIN_BRIGHTEST = 32  # of images in 0..255: a smaller maximum speaks for another range, such as 0..16
UINT8 = "uint8"  # a kind of its own: its range is certain
_AS_UINT8 = "give uint8 if 255 is white"


class _Extent(NamedTuple):
    """The least and the largest value."""

    low: float
    high: float


class PixelRange:
    """The value that is white, for each kind of number: floats, whole numbers and booleans.

    uint8 is always 0..255. Black images decide nothing: they are black in every range.
    """

    def __init__(self) -> None:
        self._extents: dict[str, _Extent] = {}
        self._whites: dict[str, int] = {}
        self._dtypes: set[str] = set()

    def measure(self, images: np.ndarray) -> None:
        """Add images of any shape to those that `decide` goes by.

        Raises:
          DatasetError: a value is not finite.
        """
        self._dtypes.add(images.dtype.name)
        if not images.size:
            return
        low, high = float(images.min()), float(images.max())
        if not np.isfinite([low, high]).all():
            raise DatasetError(f"images of {images.dtype} hold values that are not finite; expected 0..1 or 0..255")
        kind = _kind_of(images.dtype)
        old = self._extents.get(kind, _Extent(low, high))
        self._extents[kind] = _Extent(min(low, old.low), max(high, old.high))

    def decide(self) -> None:
        """Decide from all values that were measured so far which of them is white.

        Raises:
          DatasetError: that is not certain; the values, and what to write instead.
        """
        for kind, extent in self._extents.items():
            if extent.high > 0 and kind not in self._whites:
                self._whites[kind] = _find_white(kind, extent)
            _require_within(extent, self._whites.get(kind, 1))

    def to_uint8(self, images: np.ndarray) -> np.ndarray:
        """Return images of any shape as uint8, a copy unless they are.

        Raises:
          DatasetError: see `measure` and `decide`.
        """
        self.measure(images)
        self.decide()
        if images.dtype == np.uint8:
            return images
        white = self._whites.get(images.dtype.kind, 1)
        if images.dtype.kind in "bui":
            return images.astype(np.uint8) * np.uint8(255 // white)
        levels = np.rint(images.astype(np.float64) * (255 / white))
        return levels.clip(0, 255).astype(np.uint8)

    def describe(self) -> str:
        """Return in words what the values were taken for, and why."""
        taken = []
        for kind, extent in self._extents.items():
            names = " and ".join(sorted(name for name in self._dtypes if _kind_of(np.dtype(name)) == kind))
            white = self._whites.get(kind)
            meaning = "all black" if white is None else f"taken as 0 for black and {white} for white"
            taken.append(f"{names} from {_show(extent)}, {meaning}")
        return "; ".join(taken)

    @property
    def is_dark(self) -> bool:
        """True if uint8 images are so dark that another value than 255 may be white."""
        extent = self._extents.get(UINT8)
        return extent is not None and 0 < extent.high <= MIN_BRIGHTEST


def _kind_of(dtype: np.dtype[Any]) -> str:
    """Return numpy's letter of a kind of number; uint8 is a kind of its own."""
    return UINT8 if dtype == np.uint8 else dtype.kind


def _find_white(kind: str, extent: _Extent) -> int:
    """Return 1 or 255."""
    if kind in ("b", UINT8):
        return {"b": 1, UINT8: 255}[kind]
    if _is_overshoot(extent):
        raise DatasetError(
            f"images hold {_show(extent)}, a little out of 0..255, as bicubic resampling leaves them; clip them, "
            "`images.clip(0, 255)`, or give them as they were before"
        )
    if extent.low < -0.5:
        raise DatasetError(
            f"images hold negative values ({_show(extent)}); expected 0..1 or 0..255. If they were normalised for a "
            "network, undo it (`images * std + mean`), or give them before: every backbone brings its own preprocessing"
        )
    if kind == "f" and extent.high <= 1 + HALF_LEVEL:
        return 1
    if extent.high <= MIN_BRIGHTEST:
        raise DatasetError(
            f"images hold {_show(extent)}, which is neither 0..1 nor 0..255; divide them by the value that is white: "
            f"`images / {extent.high:g}` if that is the largest; {_AS_UINT8}"
        )
    return 255


def _is_overshoot(extent: _Extent) -> bool:
    """Return whether values lie out of 0..255 by no more than what cubic kernels add at an edge, an eighth of it."""
    is_out = extent.low < -0.5 or extent.high > WHITE + 0.5
    return is_out and extent.low >= -WHITE / 8 and WHITE / 2 < extent.high <= WHITE * 9 / 8


def _require_within(extent: _Extent, white: int) -> None:
    """Refuse values out of a range.

    Raises:
      DatasetError: they are; all images together have one range.
    """
    margin = white * HALF_LEVEL
    if -margin <= extent.low and extent.high <= white + margin:
        return
    if extent.low < -margin:
        advice = "negative values have no meaning: if the images were normalised for a network, undo it"
    elif white == 1:
        advice = "the first images are in 0..1, and later ones are not; divide all by the value that is white, or "
        advice += _AS_UINT8
    else:
        advice = "16 bits become 8 by `(images // 257).astype('uint8')`, and 12 by `(images // 16).astype('uint8')`"
    raise DatasetError(f"images hold {_show(extent)}, and 0..{white} was expected; {advice}")


def _show(extent: _Extent) -> str:
    return f"{extent.low:g} to {extent.high:g}"
