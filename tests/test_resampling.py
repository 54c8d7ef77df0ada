"""Resizing by matrix products against Pillow and numpy, and on every backend the same."""

import math
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import WITHOUT_TENSORFLOW
from PIL import Image

from tfl.backbones.presentation import build_views
from tfl.backbones.resampling import KERNELS, resample
from tfl.specs import FeatureSpec

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}
SHAPES = [(5, 5), (40, 33), (7, 21), (12, 12), (1, 1), (2, 9), (100, 101)]
SIZE = 12


def image_of(height, width):
    return np.random.default_rng(height).integers(0, 256, (2, height, width, 3)).astype(np.float32)


def resampled(images, interpolation, antialias, mode):
    placeholder = keras.Input((None, None, 3))
    model = keras.Model(placeholder, resample(placeholder, SIZE, interpolation, antialias, mode))
    assert model.output_shape == (None, SIZE, SIZE, 3)
    return keras.ops.convert_to_numpy(model(images))


def squared(images, mode):
    """The middle square, or the image between as much black on either side."""
    height, width = images.shape[1:3]
    if mode == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return images[:, top : top + side, left : left + side]
    rows, columns = ((max(height, width) - size) // 2 for size in (height, width))
    return images if mode == "stretch" else np.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)))


def by_pillow(images, interpolation):
    """Pillow's floating point images of one channel; it always antialiases."""
    resized = np.empty((len(images), SIZE, SIZE, 3), np.float32)
    for i, image in enumerate(images):
        for channel in range(3):
            shown = Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(
                (SIZE, SIZE), FILTERS[interpolation]
            )
            resized[i, ..., channel] = np.asarray(shown)
    return resized


@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", FILTERS)
def test_antialiased_resizing_is_pillows(interpolation, mode):
    for height, width in SHAPES:
        images = image_of(height, width)
        expected = by_pillow(squared(images, mode), interpolation)
        ours = resampled(images, interpolation, True, mode)
        np.testing.assert_allclose(ours, expected, atol=0.01, err_msg=f"{height}x{width}")  # of 255


def lanczos5(x):
    return 1.0 if x == 0 else np.sinc(x) * np.sinc(x / 5) if x < 5 else 0.0


def cubic(x):
    """Keys 1981, equation 15."""
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@pytest.mark.parametrize(("interpolation", "kernel"), [("bicubic", cubic), ("lanczos5", lanczos5)])
def test_resizing_without_antialiasing_is_what_a_loop_over_pixels_gives(interpolation, kernel):
    for count in (3, 12, 50):
        weights = np.zeros((SIZE, count))
        for i in range(SIZE):
            centre = (i + 0.5) * count / SIZE - 0.5
            for j in range(math.ceil(centre - 5), math.floor(centre + 5) + 1):
                if 0 <= j < count:
                    weights[i, j] = kernel(abs(centre - j))
        weights /= weights.sum(axis=1, keepdims=True)
        images = image_of(count, count)
        expected = np.einsum("ph,nhwc,qw->npqc", weights, images, weights)
        np.testing.assert_allclose(resampled(images, interpolation, False, "stretch"), expected, atol=0.01)


def test_every_interpolation_but_nearest_has_a_kernel():
    assert set(KERNELS) == {"bilinear", "bicubic", "lanczos3", "lanczos5"}


WAYS = (("bicubic", False, "pad"), ("bicubic", True, "crop"), ("lanczos3", False, "stretch"), ("lanczos5", True, "pad"))
PRINT_SHOWN = """
import numpy as np
from tfl.backbones.presentation import build_views
from tfl.specs import FeatureSpec
images = np.random.default_rng(0).integers(0, 256, (2, 30, 17, 3)).astype(np.uint8)
shown = []
for interpolation, antialias, mode in {ways!r}:
    spec = FeatureSpec(image_size=12, interpolation=interpolation, antialias=antialias, resize_mode=mode)
    shown.append(np.asarray(build_views(spec, ("original", "crop2"))(images)))
np.save({out!r}, np.stack(shown))
"""


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.torch)])
def test_images_are_the_same_pixels_on_every_backend(backend, tmp_path):
    pytest.importorskip(backend)
    program = WITHOUT_TENSORFLOW + PRINT_SHOWN.format(ways=WAYS, out=str(tmp_path / "shown.npy"))
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 17, 3)).astype(np.uint8)
    for theirs, (interpolation, antialias, mode) in zip(np.load(tmp_path / "shown.npy"), WAYS, strict=True):
        spec = FeatureSpec(image_size=12, interpolation=interpolation, antialias=antialias, resize_mode=mode)
        ours = keras.ops.convert_to_numpy(build_views(spec, ("original", "crop2"))(images))
        np.testing.assert_allclose(theirs, ours, atol=0.01)  # of 255


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"])
@pytest.mark.parametrize("antialias", [False, True])
def test_portable_pixels_are_those_of_training(interpolation, antialias):
    spec = FeatureSpec(image_size=12, interpolation=interpolation, antialias=antialias)
    for height, width in SHAPES:
        images = image_of(height, width).astype(np.uint8)
        ours, portable = (
            keras.ops.convert_to_numpy(build_views(spec, ("original",), is_portable)(images))
            for is_portable in (False, True)
        )
        np.testing.assert_allclose(portable, ours, atol=0.01, err_msg=f"{height}x{width}")
