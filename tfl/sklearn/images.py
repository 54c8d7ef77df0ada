"""Images as scikit-learn's users have them: arrays of one size or of several, or paths of files."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfl.datasets import decode_image, to_text
from tfl.datasets.arrays import ImageConverter, to_array
from tfl.datasets.images import read_bytes, require_image
from tfl.files.paths import expand_user
from tfl.sklearn.errors import EstimatorError


class Image(NamedTuple):
    """One image, not yet decoded.

    Attributes:
      digest: sha256 of its content, of the file or of the pixels.
      count_bytes: returns its bytes when decoded; looks at the header of a file.
      decode: returns its pixels, uint8 RGB `(h, w, 3)`.
    """

    digest: bytes
    count_bytes: Callable[[], int]
    decode: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Images:
    """Images to iterate over, in order; a file is read when its turn comes.

    Attributes:
      items: what `open_image` takes.
      is_decoded: the items are pixels; else decoding is worth several threads.
      log: says what the images were taken for, after the last one.
    """

    items: Sequence[Any] | np.ndarray
    open_image: Callable[[Any], Image]
    is_decoded: bool
    log: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Image]:
        yield from map(self.open_image, self.items)
        self.log()


def open_images(images: Any) -> Images:
    """Return images given as an array `(n, h, w, 3)` or `(n, h, w)`, a list of arrays, or a list of paths.

    Raises:
      EstimatorError: they are none of these, or there are none.
      DatasetError: see `ImageConverter`.
    """
    _require_several(images)
    images = _to_column(images)
    if isinstance(next(iter(images)), str | os.PathLike):
        return Images(_list_paths(images), _open_file, is_decoded=False)
    return _open_pixels(images)


def _require_several(images: Any) -> None:
    if images is None or isinstance(images, str | bytes | os.PathLike) or not hasattr(images, "__len__"):
        raise EstimatorError(
            f"got {_describe(images)}; expected images: an array (n, h, w, 3) or (n, h, w), a list of arrays, or a "
            "list of paths"
        )
    if len(images) == 0:
        raise EstimatorError("got 0 images; at least 1 is required")


def _describe(value: Any) -> str:
    return repr(value)[:80] if isinstance(value, str | bytes | os.PathLike) else type(value).__name__


def _to_column(images: Any) -> Any:
    """Return a column of a table, pandas' or numpy's, as a list; anything else as it is.

    Raises:
      EstimatorError: it is a table of several columns.
    """
    values = images.to_numpy() if hasattr(images, "to_numpy") else images
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "OUS":
        return values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise EstimatorError(f"got a table {values.shape}; expected one column of paths, or images")
    return values.tolist()


def _list_paths(images: Any) -> list[Path]:
    """Return paths from a list, an array or a column of a table.

    Raises:
      EstimatorError: one of them is no path.
    """
    paths = []
    for item in images:
        if not isinstance(item, str | os.PathLike):
            raise EstimatorError(f"the first image is a path, and another is {_describe(item)}; expected paths alone")
        paths.append(expand_user(os.fspath(item)))
    return paths


def _open_file(path: Path) -> Image:
    content = read_bytes(path)
    name = to_text(path)
    digest = hashlib.sha256(b"file" + content).digest()
    return Image(digest, lambda: require_image(content, name), lambda: decode_image(content, name))


def _open_pixels(images: Any) -> Images:
    """Return images in memory; each is converted when its turn comes.

    Raises:
      DatasetError: see `ImageConverter`.
    """
    converter = ImageConverter()
    converter.measure(images)
    items = images if isinstance(images, list | tuple) else to_array(images)

    def open_image(item: Any) -> Image:
        return _describe_pixels(converter.convert(to_array(item)[None])[0])

    return Images(items, open_image, is_decoded=True, log=converter.log)


def _describe_pixels(pixels: np.ndarray) -> Image:
    digest = hashlib.sha256(f"pixels {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Image(digest.digest(), lambda: pixels.nbytes, lambda: pixels)
