"""TensorFlow's SavedModel: three signatures, class names in the graph, no Keras to load it."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfl.artefacts.combined import Combined
from tfl.artefacts.decoding import decode

IMAGES = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
IMAGE_BYTES = tf.TensorSpec((None,), tf.string, name="image_bytes")


class Part:
    """A Keras model called with weights that a SavedModel stores, in float32 or, rounded, in float16."""

    def __init__(self, model: keras.Model, is_float16: bool) -> None:
        self._model = model
        self._is_float16 = is_float16
        self.stored = [_rounded(each.value) if is_float16 else each.value for each in model.variables]

    def __call__(self, batch: Any) -> Any:
        """The model's outputs; float16 weights are widened each time."""
        if not self._is_float16:
            return self._model(batch, training=False)
        weights = [
            tf.cast(each, variable.dtype) for each, variable in zip(self.stored, self._model.variables, strict=True)
        ]
        return self._model.stateless_call([], weights, batch, training=False)[0]


def _rounded(variable: Any) -> Any:
    return tf.Variable(tf.cast(variable, tf.float16) if variable.dtype == tf.float32 else variable, trainable=False)


def save(combined: Combined, folder: Path, is_float16: bool) -> None:
    """Write the folder.

    `serving_default` takes `images`, uint8 `(n, h, w, 3)` of any n, h and w; `serve_bytes` takes `image_bytes`, encoded
    images `(n,)`; both return `probabilities (n, c)`, `logits (n, c)`, `class_index (n,)` and `class_name (n,)`.
    `features` takes `images` and returns `features (n, d)`. `serve_bytes` refuses an encoded image whose header claims
    more than `combined.max_image_pixels`, before it decodes any, and turns images as their Exif data says.
    """
    network, head = Part(combined.network, is_float16), Part(combined.head, is_float16)
    names = tf.constant(combined.class_names)

    def answers(features: Any) -> dict[str, Any]:
        found = answers_of(head(features))
        return {**found, "class_name": tf.gather(names, found["class_index"])}

    def features_of(pixels: Any, count: Any) -> Any:
        return network(pixels)[:count]  # (n, d)

    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def features(images: Any) -> dict[str, Any]:
        return {"features": features_of(combined.shown(not_empty(images)), tf.shape(images)[0])}

    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        return answers(features_of(combined.shown(not_empty(images)), tf.shape(images)[0]))

    @tf.function(input_signature=[IMAGE_BYTES], autograph=False)  # type: ignore[untyped-decorator]
    def serve_bytes(image_bytes: Any) -> dict[str, Any]:
        pixels = decode.decode_all(image_bytes, combined.shown, combined.max_image_pixels)  # (n or 1, v, size, size, 3)
        by_view = tf.transpose(pixels, [1, 0, 2, 3, 4])
        return answers(features_of(tf.reshape(by_view, [-1, *pixels.shape[2:]]), tf.shape(image_bytes)[0]))

    module = tf.Module()  # holds the variables alone: loading it needs no Keras
    module.weights = [*network.stored, *head.stored]
    module.functions = [serve, serve_bytes, features]
    signatures = {"serving_default": serve, "serve_bytes": serve_bytes, "features": features}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def not_empty(images: Any) -> Any:
    """The images, or one black image where there are none: oneDNN's convolutions refuse an empty batch."""
    is_empty = tf.cast(tf.shape(images)[0] == 0, tf.int32)
    return tf.pad(images, [[0, is_empty], [0, 0], [0, 0], [0, 0]])


def answers_of(logits: Any) -> dict[str, Any]:
    """What every format returns: `probabilities (n, c)`, `logits (n, c)` and `class_index (n,)`."""
    return {"probabilities": tf.nn.softmax(logits), "logits": logits, "class_index": tf.argmax(logits, axis=-1)}
