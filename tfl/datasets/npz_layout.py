"""The arrays that each split of an .npz file has, and how to convert those that do not fit."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfl.datasets.npy import Header
from tfl.errors import DatasetError
from tfl.text import to_printable

SIZES = "sizes"  # of flat images, see `ragged_images`
MIN_WIDTH = 5  # of a grey image (n, h, w): a shorter last axis may hold colours


def check_split(path: Path, split: str, headers: Mapping[str, Header]) -> None:
    """Refuse a split whose images, labels or ids have another shape or dtype.

    Raises:
      DatasetError: the array, what it is, what was expected, and how to convert it if that is
        known.
    """
    images, labels, ids = (headers.get(f"{split}_{part}") for part in ("images", "labels", "ids"))
    sizes = headers.get(f"{split}_{SIZES}")
    assert images is not None
    if sizes is not None:
        _check_flat(path, split, images, sizes)
    elif not _are_images(images):
        expected = f"uint8 (n, h, w, 3), or grey (n, h, w, 1) or (n, h, w){_advise_on_images(images)}"
        raise _wrong_array(path, f"{split}_images", images, expected)
    num = (sizes or images).shape[0]
    if labels is None or labels.shape not in ((num,), (num, 1)) or labels.dtype.kind not in "iu":
        expected = f"integers ({num},) or ({num}, 1){_advise_on_labels(labels)}"
        raise _wrong_array(path, f"{split}_labels", labels, expected)
    if ids is not None and (ids.shape != (num,) or ids.dtype.kind not in "SU"):
        raise _wrong_array(path, f"{split}_ids", ids, f"text ({num},)")


def _check_flat(path: Path, split: str, images: Header, sizes: Header) -> None:
    """Refuse flat images of several sizes, see `ragged_images`, that are not described as such."""
    if images.dtype != np.uint8:
        raise _wrong_array(path, f"{split}_images", images, "uint8")
    if len(sizes.shape) != 2 or sizes.shape[1] != 2 or sizes.dtype != np.int64:
        raise _wrong_array(path, f"{split}_{SIZES}", sizes, "int64 (n, 2): height and width of each image")


def _wrong_array(path: Path, name: str, header: Header | None, expected: str) -> DatasetError:
    received = "missing" if header is None else f"{header.dtype} {header.shape}"
    return DatasetError(f"{to_printable(name)} of {path} is {received}; expected {expected}")


def _are_images(header: Header) -> bool:
    shape = header.shape
    is_grey = len(shape) == 3 and shape[2] >= MIN_WIDTH
    has_channels = len(shape) == 4 and shape[3] in (1, 3)
    return header.dtype == np.uint8 and (is_grey or has_channels) and min(shape[1:]) > 0


def _advise_on_images(header: Header) -> str:
    """Return how to convert an array to images, or nothing if that is not known."""
    kind, shape = header.dtype.kind, header.shape
    conversions = {
        "f": "`(images * 255).round().astype('uint8')` if they are in 0..1, `images.round().astype('uint8')` in 0..255",
        "b": "`images.astype('uint8') * 255`",
        "u": "`(images // 257).astype('uint8')` if they are in 0..65535, `images.astype('uint8')` in 0..255",
        "i": "`images.astype('uint8')` if they are in 0..255",
    }
    if header.dtype != np.uint8:
        return f"; convert them: {conversions[kind]}" if kind in conversions else ""
    return advise_on_shape(shape)


def advise_on_shape(shape: tuple[int, ...]) -> str:
    """Return how to give an array the shape of images, or nothing if that is not known."""
    if len(shape) == 4 and shape[1] in (1, 3):
        return "; channels come last: `images.transpose(0, 2, 3, 1)`"
    if len(shape) == 4 and shape[3] == 4:
        return "; drop the fourth channel: `images[..., :3]`"
    if len(shape) == 4 and shape[3] == 2:
        return "; drop the second channel: `images[..., :1]`"
    if len(shape) in (2, 3):
        return (
            "; give flat images their shape: `images.reshape(len(images), h, w, 3)`; one image alone is `images[None]`"
        )
    return ""


def _advise_on_labels(header: Header | None) -> str:
    """Return how to convert an array to labels, or nothing if that is not known."""
    if header is None:
        return ""
    if len(header.shape) == 2 and header.shape[1] > 1:
        return (
            f"; {header.shape[1]} columns become labels by `labels.argmax(axis=1)` if they are one-hot; several "
            "classes per image (multi-label, as in ChestMNIST) are not supported"
        )
    if header.dtype.kind in "SU":
        return "; names become labels by `class_names, labels = numpy.unique(labels, return_inverse=True)`: save both"
    if header.dtype.kind in "fb":
        return "; whole numbers become labels by `labels.astype('int64')`"
    return ""
