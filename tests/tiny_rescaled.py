"""A backbone that Keras builds with one more layer for "imagenet" than for a file, as it does EfficientNet."""

import keras
from keras.src.utils import file_utils

from tfl.backbones.applications import make_source

WEIGHTS_HASHES = {"tiny": ("0" * 32, "1" * 32)}  # md5 of the official files, with and without the top


def preprocess_input(x):
    return x


def TinyRescaled(include_top, weights, input_shape):  # noqa: N802 -- as keras.applications spells architectures
    assert not include_top
    images = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Normalization()(x)
    if weights == "imagenet":
        x = keras.layers.Rescaling([3.0, 5.0, 7.0])(x)
    x = keras.layers.Conv2D(6, 3, name="stem_conv")(x)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    x = keras.layers.ReLU(name="stem_activation")(x)
    network = keras.Model(images, x, name="tiny_rescaled")
    if weights == "imagenet":
        network.load_weights(file_utils.get_file("tiny_rescaled.h5", "https://example.invalid/tiny_rescaled.h5"))
    return network


SOURCE = make_source("tiny_rescaled", "tiny_rescaled:", lambda: {"tinyrescaled": TinyRescaled})
