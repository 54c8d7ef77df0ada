import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import WITHOUT_TENSORFLOW

from tfl import backbone, engine

RNG = np.random.default_rng(0)
IMAGES = list(RNG.integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
MIXED = [RNG.integers(0, 255, (8 + i, 15 - i, 3), dtype=np.uint8) for i in range(5)]


@pytest.fixture
def built(tiny_backbone, features):
    return backbone.build(features)


def test_agrees_with_keras(built):
    expected = built.model.predict(np.stack(IMAGES), verbose=0)
    np.testing.assert_allclose(engine.Forward(built, 8).features(IMAGES), expected, rtol=1e-4, atol=1e-6)


def test_batch_size_and_position_do_not_count(built):
    whole = engine.Forward(built, 7).features(IMAGES)
    singly = np.concatenate([engine.Forward(built, 4).features([image]) for image in IMAGES])
    np.testing.assert_allclose(whole, singly, rtol=1e-4, atol=1e-6)


def test_images_of_differing_sizes(built):
    expected = np.concatenate([built.model.predict(image[None], verbose=0) for image in MIXED])
    np.testing.assert_allclose(engine.Forward(built, 8).features(MIXED), expected, rtol=1e-4, atol=1e-6)


def test_images_are_not_written_into(built):
    for image in IMAGES:
        image.flags.writeable = False
    before = np.stack(IMAGES)
    engine.Forward(built, 8).features(IMAGES)
    np.testing.assert_array_equal(np.stack(IMAGES), before)


def test_exact_float32_is_put_back():
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    with engine.exact_float32():
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    assert tf.config.experimental.tensor_float_32_execution_enabled() == before


PRINT_FEATURES = """
sys.path.insert(0, {tests!r})
import keras, numpy as np, tiny
from tfl import backbone, engine
from tfl.spec import FeatureSpec
keras.applications.Tiny = tiny.Tiny
built = backbone.build(FeatureSpec(backbone="tiny", weights="random", image_size=12))
images = list(np.random.default_rng(0).integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
np.save({out!r}, engine.Forward(built, 8).features(images))
print(built.spec.weights)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_agree(built, backend, tmp_path):
    """In a process without TensorFlow: the same weights, and features within 1e-4."""
    pytest.importorskip(backend)
    program = WITHOUT_TENSORFLOW + PRINT_FEATURES.format(
        tests=str(Path(__file__).parent), out=str(tmp_path / "features.npy")
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == built.spec.weights
    ours = engine.Forward(built, 8).features(IMAGES)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), ours, rtol=1e-4, atol=1e-5)


def test_description_names_what_decides_the_last_bits():
    description = engine.describe(8)
    assert description["engine"] == keras.backend.backend()
    assert description["batch_size"] == 8
    assert description["versions"]["keras"] == keras.__version__
