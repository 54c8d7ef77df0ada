"""The functions that a SavedModel serves, and the variables that it stores."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfl.artefacts.combined import Combined
from tfl.artefacts.decoding import decode
from tfl.artefacts.formats.graph import IMAGES, answers_of, pad_empty, specify

IMAGE_BYTES = tf.TensorSpec((None,), tf.string, name="image_bytes")


class Part:
    """A Keras model with the weights that a SavedModel stores for it, in float32 or rounded to float16."""

    def __init__(self, model: keras.Model, is_float16: bool) -> None:
        self._model = model
        self._is_float16 = is_float16
        self.stored = [_round(each.value) if is_float16 else each.value for each in model.variables]

    def __call__(self, batch: Any) -> Any:
        """Return the model's outputs; float16 weights are widened on each call."""
        if not self._is_float16:
            return self._model(batch, training=False)
        variables = self._model.variables
        weights = [tf.cast(each, variable.dtype) for each, variable in zip(self.stored, variables, strict=True)]
        return self._model.stateless_call([], weights, batch, training=False)[0]


def _round(variable: Any) -> Any:
    return tf.Variable(tf.cast(variable, tf.float16) if variable.dtype == tf.float32 else variable, trainable=False)


def save(combined: Combined, folder: Path, is_float16: bool) -> None:
    """Write a SavedModel with three signatures.

    `serving_default` takes `images`, uint8 `(n, h, w, 3)` of any n, h and w. `serve_bytes` takes
    `image_bytes`, encoded images `(n,)`; it turns them as their Exif data says, and refuses one
    whose header claims more than `combined.max_image_pixels` before it decodes any. Both return
    `probabilities (n, c)`, `logits (n, c)`, `class_index (n,)` and `class_name (n,)`. `features`
    takes `images` and returns `features (n, d)`.
    """
    network, head = Part(combined.network, is_float16), Part(combined.head, is_float16)
    names = tf.constant(combined.class_names)

    def answers(features: Any) -> dict[str, Any]:
        found = answers_of(head(features))
        return {**found, "class_name": tf.gather(names, found["class_index"])}

    def features_of(images: Any) -> Any:
        pixels = combined.presentation(pad_empty(images))  # (v * max(n, 1), size, size, 3)
        return network(pixels)[: tf.shape(images)[0]]  # (n, d)

    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def features(images: Any) -> dict[str, Any]:
        return {"features": features_of(images)}

    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        return answers(features_of(images))

    @tf.function(input_signature=[IMAGE_BYTES], autograph=False)  # type: ignore[untyped-decorator]
    def serve_bytes(image_bytes: Any) -> dict[str, Any]:
        pixels = decode.decode_all(image_bytes, combined.presentation, combined.max_image_pixels)
        by_view = tf.transpose(pixels, [1, 0, 2, 3, 4])  # (v, n or 1, size, size, 3)
        in_a_row = tf.reshape(by_view, [-1, *pixels.shape[2:]])  # (v * (n or 1), size, size, 3)
        return answers(network(in_a_row)[: tf.shape(image_bytes)[0]])

    module = tf.Module()  # holds the variables alone: loading it needs no Keras
    module.weights = [*network.stored, *head.stored]
    module.functions = [serve, serve_bytes, features]
    signatures = {"serving_default": serve, "serve_bytes": serve_bytes, "features": features}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def save_head(combined: Combined, folder: Path, is_float16: bool) -> None:
    """Write a SavedModel of a head alone.

    Its one signature, `serving_default`, takes `features`, float32 `(n, d)`, and returns what that
    of `save` returns.
    """
    head, names = Part(combined.head, is_float16), tf.constant(combined.class_names)

    @tf.function(input_signature=[specify(combined.takes)], autograph=False)  # type: ignore[untyped-decorator]
    def serve(features: Any) -> dict[str, Any]:
        found = answers_of(head(features))
        return {**found, "class_name": tf.gather(names, found["class_index"])}

    module = tf.Module()
    module.weights, module.functions = head.stored, [serve]
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
