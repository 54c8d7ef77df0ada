"""Resizing as two matrix products: the same pixels on every backend, of operations that every format can carry.

It serves where Keras' own resizing (3.15.1) cannot: bicubic without antialiasing differs between backends by up to 27
of 255 (PyTorch has another kernel), the PyTorch backend has no Lanczos, and TensorFlow's antialiased resizing converts
to no other format.

It cannot replace Keras' resizing. On a photo of 12 megapixels it takes 7.8 times as long for bilinear, 4.6 times for
antialiased bilinear, 3.2 times for antialiased bicubic and 2.0 times for antialiased lanczos5; on images of 32 x 32
pixels a fifth to one and a half times (TensorFlow 2.21 on 2 cores, medians of 7: `docs/results/resizing.json`).
"""

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfl.specs import Interpolation

# Each gives a pixel's weight, by its distance in pixels, before all weights are divided by their sum. Bicubic is
# Keys' (1981) with a = -1/2. They are those of `jax.image.scale_and_translate` and TensorFlow's ScaleAndTranslate.
KERNELS: dict[Interpolation, Callable[[Any], Any]] = {
    "bilinear": lambda x: ops.relu(1 - x),
    "bicubic": lambda x: ops.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ops.where(x < 2, _outer_cubic(x), 0.0)),
    "lanczos3": lambda x: _lanczos(x, 3),
    "lanczos5": lambda x: _lanczos(x, 5),
}


def _outer_cubic(x: Any) -> Any:
    return ((-0.5 * x + 2.5) * x - 4) * x + 2


def _lanczos(x: Any, radius: int) -> Any:
    angle = np.pi * ops.maximum(x, 1e-3)  # below this distance the weight is 1 in float32
    weight = radius * ops.sin(angle) * ops.sin(angle / radius) / (angle * angle)
    return ops.where(x < radius, weight, 0.0)


def resample(
    images: keras.KerasTensor,
    size: int,
    interpolation: Interpolation,
    antialias: bool,
    mode: Literal["stretch", "crop", "pad"],
) -> keras.KerasTensor:
    """Resize float32 images `(n, h, w, 3)`, n at least 1, to `(n, size, size, 3)`.

    `FeatureSpec` says what the arguments mean. As in `keras.ops.image.resize`, `crop` first cuts the largest square
    out of the middle, and `pad` first adds black pixels, as many on either side, to make a square.
    """
    rows = ops.ones_like(images[0, :, 0, 0])  # (h,)
    columns = ops.ones_like(images[0, 0, :, 0])  # (w,)
    down, across = weigh_axes(rows, columns, size, interpolation, antialias, mode)
    channels = ops.transpose(images, (0, 3, 1, 2))  # (n, 3, h, w)
    resized = ops.matmul(ops.matmul(down, channels), ops.transpose(across))  # (n, 3, size, size)
    return ops.transpose(resized, (0, 2, 3, 1))


def weigh_axes(
    rows: Any,
    columns: Any,
    size: int,
    interpolation: Interpolation,
    antialias: bool,
    mode: Literal["stretch", "crop", "pad"],
) -> tuple[Any, Any]:
    """Return the two matrices that resize an image: `(size, h)` from the left, `(size, w)` transposed from the right.

    Args:
      rows: ones `(h,)`.
      columns: ones `(w,)`.
    """
    kernel = KERNELS[interpolation]
    down = _weigh_pixels(rows, columns, size, kernel, antialias, mode)  # (size, h)
    across = _weigh_pixels(columns, rows, size, kernel, antialias, mode)  # (size, w)
    return down, across


def _weigh_pixels(own: Any, other: Any, size: int, kernel: Any, antialias: bool, mode: str) -> Any:
    """Return the weight of each pixel along an axis for each resized pixel, `(size, h)`.

    Rows add up to 1, the weights of black pixels included.

    Args:
      own: ones, as many as the axis has pixels: the number, which symbolic shapes do not hold, is their sum.
      other: the same of the other axis.
    """
    num_own, num_other = ops.sum(own), ops.sum(other)
    if mode == "stretch":
        side = num_own
    elif mode == "crop":
        side = ops.minimum(num_own, num_other)
    else:
        side = ops.maximum(num_own, num_other)
    # First pixel of the square; negative if it is black.
    start = ops.sign(num_own - side) * ops.floor(ops.absolute(num_own - side) / 2)
    # There are as many black pixels on either side, so that the square may lack one.
    length = num_own - 2 * start if mode == "pad" else side
    scale = length / size
    radius = ops.maximum(scale, 1.0) if antialias else 1.0
    centres = scale * (np.arange(size, dtype=np.float32)[:, None] + 0.5) - 0.5 + start  # (size, 1)

    def weigh(positions: Any) -> Any:
        weights = kernel(ops.absolute(centres - positions) / radius)  # (size, h)
        is_inside = ops.logical_and(positions >= start, positions < start + length)
        return ops.where(is_inside, weights, 0.0)

    weights = weigh(ops.cumsum(own) - 1)  # (size, h)
    total = ops.sum(weights, axis=1, keepdims=True)  # (size, 1)
    if mode == "pad":  # the square's pixels are numbered by the longer axis
        weights_of_square = weigh(ops.cumsum(other) - 1 + start)  # (size, w)
        total_of_square = ops.sum(weights_of_square, axis=1, keepdims=True)  # (size, 1)
        total = ops.where(num_other > num_own, total_of_square, total)
    return weights / total
