"""A backbone that builds and runs in milliseconds, by the conventions of keras.applications; and its source."""

import contextlib

import keras

from tfl import backbones
from tfl.backbones.applications import make_source


def preprocess_input(x):
    return x / 255.0 - 0.5


def Tiny(include_top, weights, input_shape):  # noqa: N802 -- as keras.applications spells architectures
    assert not include_top
    assert weights is None
    if input_shape[0] < 8:
        raise ValueError(f"Input size must be at least 8x8; Received: input_shape={input_shape}")
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(6, 3, strides=2, use_bias=False, name="conv1")(images)
    x = keras.layers.BatchNormalization(name="bn1")(x)
    x = keras.layers.ReLU(name="relu1")(x)
    x = keras.layers.Conv2D(5, 3, name="conv2", activation="relu")(x)
    return keras.Model(images, x, name="tiny")


SOURCE = make_source("tiny", "tiny:", lambda: {"tiny": Tiny})


@contextlib.contextmanager
def registered(source=SOURCE):
    """Let `backbone="tiny"` name the backbone inside."""
    is_new = source not in backbones.SOURCES
    if is_new:
        backbones.register(source)
    try:
        yield
    finally:
        if is_new:
            backbones.unregister(source)
