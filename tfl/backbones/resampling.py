"""Resizing as two matrix products: the same pixels on every backend, of operations that every format can carry.

Keras' own bicubic resizing without antialiasing differs between backends by up to 27 of 255 (3.15.1: PyTorch takes
another kernel), its PyTorch backend has no Lanczos, and TensorFlow's antialiased resizing converts to no other format.
"""

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfl.specs import Interpolation

# Of the distance to a pixel, in pixels: its weight before all weights are divided by their sum. Bicubic is Keys' (1981)
# with a = -1/2. As in `jax.image.scale_and_translate` and TensorFlow's ScaleAndTranslate.
KERNELS: dict[Interpolation, Callable[[Any], Any]] = {
    "bilinear": lambda x: ops.relu(1 - x),
    "bicubic": lambda x: ops.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ops.where(x < 2, _outer_cubic(x), 0.0)),
    "lanczos3": lambda x: _lanczos(x, 3),
    "lanczos5": lambda x: _lanczos(x, 5),
}


def _outer_cubic(x: Any) -> Any:
    return ((-0.5 * x + 2.5) * x - 4) * x + 2


def _lanczos(x: Any, radius: int) -> Any:
    angle = np.pi * ops.maximum(x, 1e-3)  # nearer than that the weight is 1 in float32
    return ops.where(x < radius, radius * ops.sin(angle) * ops.sin(angle / radius) / (angle * angle), 0.0)


def resample(
    images: keras.KerasTensor,
    size: int,
    interpolation: Interpolation,
    antialias: bool,
    mode: Literal["stretch", "crop", "pad"],
) -> keras.KerasTensor:
    """Float32 images `(n, h, w, 3)`, n at least 1, to `(n, size, size, 3)`; see `FeatureSpec` for the arguments.

    As `keras.ops.image.resize` has it: `crop` cuts the shorter side's square out of the middle first, `pad` puts black
    pixels around, as many on either side, that make a square of the longer one.
    """
    ones_down, ones_across = (ops.ones_like(pixels) for pixels in (images[0, :, 0, 0], images[0, 0, :, 0]))
    down = _weights(ones_down, ones_across, size, KERNELS[interpolation], antialias, mode)  # (size, h)
    across = _weights(ones_across, ones_down, size, KERNELS[interpolation], antialias, mode)  # (size, w)
    channels = ops.transpose(images, (0, 3, 1, 2))  # (n, 3, h, w)
    resized = ops.matmul(ops.matmul(down, channels), ops.transpose(across))  # (n, 3, size, size)
    return ops.transpose(resized, (0, 2, 3, 1))


def _weights(own: Any, other: Any, size: int, kernel: Any, antialias: bool, mode: str) -> Any:
    """What each pixel along an axis counts for each resized one, `(size, h)`; rows add up to 1, black pixels included.

    Args:
      own: ones, as many as the axis has pixels; symbolic shapes hold no numbers.
      other: the same of the other axis.
    """
    num_own, num_other = ops.sum(own), ops.sum(other)
    square = {"stretch": num_own, "crop": ops.minimum(num_own, num_other), "pad": ops.maximum(num_own, num_other)}[mode]
    start = ops.sign(num_own - square) * ops.floor(ops.absolute(num_own - square) / 2)  # negative of black pixels
    length = num_own - 2 * start if mode == "pad" else square  # as many on either side, so the square may lack one
    scale = length / size
    spread = ops.maximum(scale, 1.0) if antialias else 1.0
    centres = scale * (np.arange(size, dtype=np.float32)[:, None] + 0.5) - 0.5 + start  # (size, 1)

    def of(positions: Any) -> Any:
        weights = kernel(ops.absolute(centres - positions) / spread)  # (size, h)
        is_inside = ops.logical_and(positions >= start, positions < start + length)
        return ops.where(is_inside, weights, 0.0)

    weights = of(ops.cumsum(own) - 1)
    total = ops.sum(weights, axis=1, keepdims=True)
    if mode == "pad":  # the square's pixels are numbered by the longer axis
        of_longer = of(ops.cumsum(other) - 1 + start)
        total = ops.where(num_other > num_own, ops.sum(of_longer, axis=1, keepdims=True), total)
    return weights / total
