"""Images as the network is shown them: resized, and cropped or mirrored as a view says."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tfl.backbones.exact_bilinear import build_matrix, resize_exactly
from tfl.backbones.resampling import KERNELS, resample, weigh_axes
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs import INT8, FeatureSpec, View

CROP_SCALE = 8 / 7  # an image is resized to this many times `image_size` before a crop is cut: 256 for 224
# The place of each crop, as shares of the pixels that are left over: from the top, from the left.
CROPS: dict[View, tuple[float, float]] = {
    "crop1": (0, 0),
    "crop2": (0, 1),
    "crop3": (1, 0),
    "crop4": (1, 1),
    "crop5": (0.5, 0.5),
}


class Window(NamedTuple):
    """The square that a view cuts out of the resized image, in pixels.

    Attributes:
      side: height and width that the image is resized to.
      top: first row of the square.
      left: first column of the square.
    """

    side: int
    top: int
    left: int


def window_of(view: View, image_size: int) -> Window:
    """Return the square of `image_size` that a view cuts out."""
    if view not in CROPS:
        return Window(image_size, 0, 0)
    side = round(image_size * CROP_SCALE)
    top, left = (int(share * (side - image_size)) for share in CROPS[view])
    return Window(side, top, left)


@pin_keras_settings()
def build_views(spec: FeatureSpec, views: tuple[View, ...], is_portable: bool = False) -> keras.Model:
    """Build the model that makes the network's pixels of images, view after view.

    Args:
      spec: of any backbone.
      is_portable: build it of operations that every export format can carry; see `resampling`.

    Returns:
      uint8 `(n, h, w, 3)` to float32 `(v * n, image_size, image_size, 3)`, in 0..255, which bicubic
      and Lanczos overshoot a little.
    """
    if len(views) == 1:
        return _build_view(spec, views[0], is_portable)
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    pixels = [_build_view(spec, view, is_portable)(images) for view in views]  # each (n, size, size, 3)
    return keras.Model(images, ops.concatenate(pixels), name="views")


def _build_view(spec: FeatureSpec, view: View, is_portable: bool) -> keras.Model:
    """Build the model of one view; every shape after the images' own is static."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    size = spec.image_size
    side, top, left = window_of(view, size)
    pixels = _resize(images, side, spec, is_portable)  # (n, side, side, 3)
    if view in CROPS:
        pixels = pixels[:, top : top + size, left : left + size]  # (n, size, size, 3)
    if view == "hflip":
        pixels = ops.flip(pixels, axis=2)
    return keras.Model(images, pixels, name="resize" if view == "original" else f"resize_{view}")


def _resize(images: keras.KerasTensor, size: int, spec: FeatureSpec, is_portable: bool) -> keras.KerasTensor:
    # Cast first: resizing integers rounds back to integers in some paths and not in others.
    pixels = ops.cast(images, "float32")
    if is_exact(spec):
        return resize_exactly(pixels, size, spec.resize_mode)
    if not _can_use_keras(spec, is_portable):
        return resample(pixels, size, spec.interpolation, spec.antialias, spec.resize_mode)
    return ops.image.resize(
        pixels,
        (size, size),
        interpolation=spec.interpolation,
        antialias=spec.antialias,
        # An exported `.keras` file holds it: the keras.json of who loads the file does not count.
        data_format="channels_last",
        crop_to_aspect_ratio=spec.resize_mode == "crop",
        pad_to_aspect_ratio=spec.resize_mode == "pad",
    )


def is_exact(spec: FeatureSpec) -> bool:
    """Whether a view's pixels are the same bits in every engine: for int8, plain bilinear and nearest."""
    return spec.compute_dtype == INT8 and spec.interpolation == "bilinear" and not spec.antialias


def has_matrices(spec: FeatureSpec) -> bool:
    """Whether `build_matrices` can make the spec's views."""
    return spec.interpolation in KERNELS


@pin_keras_settings()
def build_matrices(spec: FeatureSpec, view: View, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two matrices that make a view of an image `(height, width)`, float32.

    The first, `(size, height)`, is multiplied from the left, and the second, `(width, size)`, from the right: the
    pixels of `build_views`, but for rounding.
    """
    size = spec.image_size
    side, top, left = window_of(view, size)
    if is_exact(spec):
        down = build_matrix(height, width, side, spec.resize_mode)  # (side, h)
        across = build_matrix(width, height, side, spec.resize_mode)  # (side, w)
    else:
        rows, columns = np.ones(height, np.float32), np.ones(width, np.float32)
        weights = weigh_axes(rows, columns, side, spec.interpolation, spec.antialias, spec.resize_mode)
        down, across = (np.asarray(ops.convert_to_numpy(each)) for each in weights)  # (side, h), (side, w)
    down, across = down[top : top + size], across[left : left + size]
    if view == "hflip":
        across = across[::-1]
    return np.ascontiguousarray(down), np.ascontiguousarray(across.T)


def _can_use_keras(spec: FeatureSpec, is_portable: bool) -> bool:
    """Whether Keras' own resizing gives this backend the pixels of the others.

    If the model has to be portable, every export format must carry the operation too. `resampling`
    says what is wrong with each. Nearest is left to Keras, although JAX takes another pixel where
    two are equally near.
    """
    if spec.interpolation == "nearest":
        return True
    if spec.interpolation == "bilinear" and not spec.antialias:
        return True
    if is_portable:
        return False
    if spec.interpolation == "bicubic":
        return spec.antialias
    return keras.backend.backend() != "torch" or spec.interpolation == "bilinear"
