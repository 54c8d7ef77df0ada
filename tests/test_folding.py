from dataclasses import replace

import keras
import numpy as np
import pytest

from tfl.backbones.backbone import build_backbone
from tfl.backbones.folding import convert_to_float32, fold_batch_norm
from tfl.machine.keras_settings import pin_keras_settings


def norms_of(model):
    return [layer.name for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def with_statistics(model):
    """As after training: a fresh BatchNormalization does nothing."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


@pytest.mark.usefixtures("tiny_backbone")
def test_folding_is_the_same_network_with_less_in_it(features):
    network = with_statistics(build_backbone(features).network)
    folded = fold_batch_norm(network)
    pixels = np.random.default_rng(1).uniform(0, 255, (3, 12, 12, 3)).astype(np.float32)
    expected = np.asarray(network(pixels))
    np.testing.assert_allclose(np.asarray(folded(pixels)), expected, rtol=1e-5, atol=1e-6)
    assert (norms_of(network), norms_of(folded)) == (["bn1"], [])
    assert (folded.input_shape, folded.output_shape, folded.trainable_variables) == ((None, 12, 12, 3), (None, 5), [])
    assert folded.count_params() < network.count_params()


@pytest.mark.usefixtures("tiny_backbone")
def test_a_convolution_that_is_a_feature_itself_is_not_folded(features):
    network = with_statistics(build_backbone(replace(features, layers=("conv1", "last"))).network)
    folded = fold_batch_norm(network)
    pixels = np.ones((2, 12, 12, 3), np.float32)
    np.testing.assert_allclose(np.asarray(folded(pixels)), np.asarray(network(pixels)), rtol=1e-6)
    assert norms_of(folded) == ["bn1"]


def test_every_kind_of_convolution_is_folded():
    images = keras.Input((9, 9, 4))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(images)
    x = keras.layers.BatchNormalization(scale=False)(x)
    x = keras.layers.SeparableConv2D(6, 3)(x)
    x = keras.layers.BatchNormalization(center=False)(x)
    x = keras.layers.Conv2D(8, 3, groups=2)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(3, 1, activation="relu")(x)  # what comes after an activation cannot be folded
    network = with_statistics(keras.Model(images, keras.layers.BatchNormalization(name="after")(x)))
    folded = fold_batch_norm(network)
    batch = np.random.default_rng(1).normal(size=(2, 9, 9, 4)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(folded(batch)), np.asarray(network(batch)), rtol=1e-4, atol=1e-5)
    assert norms_of(folded) == ["after"]


def test_a_sequence_inside_is_folded():
    """As ConvNeXt's stem."""
    images = keras.Input((9, 9, 3))
    stem = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()], name="stem")
    network = with_statistics(keras.Model(images, keras.layers.GlobalAveragePooling2D()(stem(images))))
    folded = fold_batch_norm(network)
    batch = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(folded(batch)), np.asarray(network(batch)), rtol=1e-5, atol=1e-6)
    assert norms_of(folded) == []


def test_what_a_normalization_derives_from_its_weights_is_carried_over():
    """As EfficientNet's."""
    images = keras.Input((5, 5, 3))
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(5, 3, (20, 5, 5, 3)).astype(np.float32))
    network = keras.Model(images, keras.layers.Conv2D(2, 3)(normalization(images)))
    batch = np.random.default_rng(1).normal(size=(2, 5, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(fold_batch_norm(network)(batch)), np.asarray(network(batch)), rtol=1e-5)


def test_a_copy_in_float32_computes_what_the_float32_network_does():
    """Models inside, and layers that compute with what they derive from their weights, included."""

    def made():
        images = keras.Input((8, 8, 3))
        x = keras.layers.Normalization()(keras.layers.Rescaling(0.1)(images))
        inside = keras.Sequential(
            [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
        )
        return keras.Model(images, keras.ops.cast(inside(x), "float32"))

    rng = np.random.default_rng(0)
    exact = made()
    with pin_keras_settings("bfloat16"):
        narrow = made()
    values = [rng.uniform(0.5, 1.5, weight.shape).astype(weight.dtype) for weight in exact.weights]
    for model in (exact, narrow):
        model.set_weights(values)
        next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)).finalize_state()
    copy = convert_to_float32(narrow)
    pixels = rng.uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(copy(pixels)), np.asarray(exact(pixels)), rtol=1e-5)
    assert np.abs(np.asarray(narrow(pixels)) - np.asarray(exact(pixels))).max() > 1e-3
    assert {layer.compute_dtype for layer in copy._flatten_layers() if layer.weights} == {"float32"}
    assert copy.trainable_variables == []
