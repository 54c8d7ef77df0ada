"""Bilinear resizing whose pixels are the same bits in every engine, for int8 networks.

An int8 network rounds its pixels to 256 levels. If two engines differ in the last bits of a pixel, it may fall to
another level, and the difference grows to some per cent of the features. Here every weight is a multiple of 1/256, and
those of a pixel add up to 1: sums of products of uint8 pixels and two such weights are at most 255 * 2^16 times 2^-16,
whole numbers below 2^24 that float32 holds exactly, in whatever order they are added.
"""

from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops

STEPS = 256  # weights are multiples of 1/256; with more, sums would not be exact

Mode = Literal["stretch", "crop", "pad"]


class Neighbours(NamedTuple):
    """The two pixels along an axis that each resized pixel is made of, and their weights.

    Attributes:
      first: positions of the lower pixels, whole numbers as float32 `(size,)`.
      second: positions of the upper pixels.
      first_weight: in 1/256; 0 to 256. Black pixels beside the image have no weight.
      second_weight: likewise.
    """

    first: Any
    second: Any
    first_weight: Any
    second_weight: Any


def find_neighbours(own: Any, other: Any, size: int, mode: Mode) -> Neighbours:
    """Return the neighbours along an axis; every number on the way is whole and below 2^24, or a quotient's floor.

    Args:
      own: the number of pixels along the axis, a float32 scalar.
      other: the number along the other axis.
    """
    side = {"stretch": own, "crop": ops.minimum(own, other), "pad": ops.maximum(own, other)}[mode]
    # First pixel of the square; negative if it is black. As in `resampling.resample`.
    start = ops.sign(own - side) * ops.floor(ops.absolute(own - side) / 2)
    length = own - 2 * start if mode == "pad" else side
    steps = 2 * size
    odd = 2 * np.arange(size, dtype=np.float32) + 1
    numerators = length * odd - size  # centres, in 1/steps of a pixel
    below = ops.floor(numerators / steps)  # (size,)
    rest = numerators - below * steps  # 0 to steps - 1
    second_weight = ops.floor((STEPS * rest + size) / steps)
    first = start + _clip(below, length)
    second = start + _clip(below + 1, length)
    return Neighbours(
        _clip(first, own),
        _clip(second, own),
        (STEPS - second_weight) * _is_inside(first, own),
        second_weight * _is_inside(second, own),
    )


def _clip(positions: Any, count: Any) -> Any:
    """Return the nearest of the positions 0 to count - 1; `ops.clip` (Keras 3.15) takes no symbolic bound."""
    return ops.minimum(ops.maximum(positions, 0.0), count - 1)


def _is_inside(positions: Any, count: Any) -> Any:
    """Return 1 where a position is one of the image, else 0."""
    return ops.cast(ops.logical_and(positions >= 0, positions < count), "float32")


def resize_exactly(images: keras.KerasTensor, size: int, mode: Mode) -> keras.KerasTensor:
    """Resize float32 images `(n, h, w, 3)` of whole numbers in 0..255, n at least 1, to `(n, size, size, 3)`."""
    height = ops.sum(ops.ones_like(images[0, :, 0, 0]))
    width = ops.sum(ops.ones_like(images[0, 0, :, 0]))
    rows = find_neighbours(height, width, size, mode)
    columns = find_neighbours(width, height, size, mode)
    resized = _blend(_blend(images, rows, axis=1), columns, axis=2)  # (n, size, size, 3)
    return resized / STEPS**2


def _blend(images: Any, neighbours: Neighbours, axis: int) -> Any:
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    total = 0.0
    for positions, weights in ((neighbours[0], neighbours[2]), (neighbours[1], neighbours[3])):
        pixels = ops.take(images, ops.cast(positions, "int32"), axis=axis)
        total = total + pixels * ops.reshape(weights, shape)
    return total


def build_matrix(own: int, other: int, size: int, mode: Mode) -> np.ndarray:
    """Return the weights along an axis as a matrix, float32 `(size, own)`; of an image they make the same bits."""
    found = find_neighbours(np.float32(own), np.float32(other), size, mode)
    first, second, first_weight, second_weight = (np.asarray(ops.convert_to_numpy(each)) for each in found)
    matrix = np.zeros((size, own), np.float32)
    rows = np.arange(size)
    np.add.at(matrix, (rows, first.astype(int)), first_weight / STEPS)
    np.add.at(matrix, (rows, second.astype(int)), second_weight / STEPS)
    return matrix
