"""The TensorFlow graph that several formats are made from."""

from typing import Any

import tensorflow as tf

from tfl.artefacts.combined import IMAGES as TAKES_IMAGES
from tfl.artefacts.combined import Combined, ModelInput

OUTPUTS = ("class_index", "logits", "probabilities")  # in a concrete function's own order


def specify(takes: ModelInput) -> tf.TensorSpec:
    """Return the argument of a function of what a model takes."""
    return tf.TensorSpec((None, *takes.shape), takes.dtype, name=takes.name)


IMAGES = specify(TAKES_IMAGES)


def trace(combined: Combined) -> Any:
    """Return a concrete function of what the model takes, of any n, with the outputs `OUTPUTS`."""

    @tf.function(input_signature=[specify(combined.takes)], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        pixels = combined.presentation(pad_empty(images))  # (v * max(n, 1), size, size, 3)
        features = combined.network(pixels, training=False)  # (max(n, 1), d)
        return answers_of(combined.head(features)[: tf.shape(images)[0]])

    return serve.get_concrete_function()


def trace_presentation(combined: Combined) -> Any:
    """Return a concrete function of `images` to pixels `(v * max(n, 1), size, size, 3)`."""

    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def present(images: Any) -> Any:
        return combined.presentation(pad_empty(images))

    return present.get_concrete_function()


def trace_head(combined: Combined, num_features: int) -> Any:
    """Return a concrete function of features `(v * max(n, 1), d)` and `images` to the outputs `OUTPUTS`."""
    features = tf.TensorSpec((None, num_features), tf.float32, name="features")

    @tf.function(input_signature=[features, IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def answer(features: Any, images: Any) -> dict[str, Any]:
        num_images = tf.shape(images)[0]
        by_view = tf.reshape(features, (-1, tf.maximum(num_images, 1), num_features))  # (v, max(n, 1), d)
        return answers_of(combined.head(tf.reduce_mean(by_view, axis=0))[:num_images])

    return answer.get_concrete_function()


def pad_empty(images: Any) -> Any:
    """Return the images, or one black image if there are none: oneDNN's convolutions refuse an empty batch."""
    is_empty = tf.cast(tf.shape(images)[0] == 0, tf.int32)
    return tf.pad(images, [[0, is_empty], *([[0, 0]] * (images.shape.rank - 1))])


def answers_of(logits: Any) -> dict[str, Any]:
    """Return what every format answers: `probabilities (n, c)`, `logits (n, c)` and `class_index (n,)`."""
    return {
        "probabilities": tf.nn.softmax(logits),
        "logits": logits,
        "class_index": tf.argmax(logits, axis=-1),
    }
