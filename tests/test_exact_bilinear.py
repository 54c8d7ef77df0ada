"""Resizing for int8: the same bits however it is computed, and bilinear."""

import keras
import numpy as np
import pytest
from keras import ops

from tfl.backbones.exact_bilinear import STEPS, resize_exactly
from tfl.backbones.presentation import build_matrices, build_views, is_exact
from tfl.engine import compile_model
from tfl.specs import FeatureSpec

SIZE = 12
SHAPES = [(5, 5), (40, 33), (7, 21), (12, 12), (1, 1), (2, 9), (100, 101)]


def images_of(height, width):
    return np.random.default_rng(height).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


def weights_of(count, other, mode):
    """The same in whole numbers of any size: the weight of each pixel in 1/256, `(SIZE, count)`."""
    side = {"stretch": count, "crop": min(count, other), "pad": max(count, other)}[mode]
    start = -((side - count) // 2) if side > count else (count - side) // 2
    length = count - 2 * start if mode == "pad" else side
    weights = np.zeros((SIZE, count), np.int64)
    for row in range(SIZE):
        below, rest = divmod((2 * row + 1) * length - SIZE, 2 * SIZE)
        upper = (STEPS * rest + SIZE) // (2 * SIZE)
        for position, weight in ((below, STEPS - upper), (below + 1, upper)):
            inside = start + min(max(position, 0), length - 1)
            if 0 <= inside < count:
                weights[row, inside] += weight
    return weights


@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_are_those_of_whole_numbers(shape, mode):
    height, width = shape
    images = images_of(height, width)
    down, across = weights_of(height, width, mode), weights_of(width, height, mode)
    expected = np.einsum("sh,nhwc,tw->nstc", down, images.astype(np.int64), across) / STEPS**2
    resized = resize_exactly(ops.convert_to_tensor(images.astype(np.float32)), SIZE, mode)
    np.testing.assert_array_equal(ops.convert_to_numpy(resized), expected)


@pytest.mark.parametrize("view", ["original", "hflip", "crop2", "crop5"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_way_gives_the_same_bits(shape, view):
    spec = FeatureSpec(image_size=SIZE, compute_dtype="int8")
    images = images_of(*shape)
    model = build_views(spec, (view,), is_portable=True)
    pixels = ops.convert_to_numpy(model(images))
    compiled = compile_model(build_views(spec, (view,)), (None, None, None, 3))
    down, across = build_matrices(spec, view, *shape)
    channels = images.astype(np.float32).transpose(0, 3, 1, 2)  # (n, 3, h, w)
    by_matrices = (down @ channels @ across).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(ops.convert_to_numpy(compiled(images)), pixels)
    np.testing.assert_array_equal(by_matrices, pixels)


@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_bilinear_to_a_step_of_the_weights(shape):
    images = images_of(*shape)
    exact = ops.convert_to_numpy(build_views(FeatureSpec(image_size=SIZE, compute_dtype="int8"), ("original",))(images))
    plain = ops.convert_to_numpy(build_views(FeatureSpec(image_size=SIZE), ("original",))(images))
    assert np.abs(exact - plain).max() <= 255 * 2 / (2 * STEPS) + 1e-3


def test_which_views_are_exact():
    assert is_exact(FeatureSpec(compute_dtype="int8"))
    assert not is_exact(FeatureSpec())
    assert not is_exact(FeatureSpec(compute_dtype="int8", antialias=True))
    assert not is_exact(FeatureSpec(compute_dtype="int8", interpolation="bicubic"))


def test_openvino_gives_the_same_bits():
    openvino = pytest.importorskip("openvino")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("OpenVINO takes its graphs from TensorFlow")
    from tfl.engine.tensorflow import trace

    model = build_views(FeatureSpec(image_size=SIZE, compute_dtype="int8"), ("crop3",), is_portable=True)
    graph = openvino.convert_model(trace(model, (None, None, None, 3)))
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for shape in SHAPES:
        images = images_of(*shape)
        np.testing.assert_array_equal(compiled(images)[0], ops.convert_to_numpy(model(images)))
