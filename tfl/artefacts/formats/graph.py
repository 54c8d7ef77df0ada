"""The TensorFlow graph that several formats are made from."""

from typing import Any

import tensorflow as tf

from tfl.artefacts.combined import Combined

IMAGES = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
OUTPUTS = ("class_index", "logits", "probabilities")  # in a concrete function's own order


def trace(combined: Combined) -> Any:
    """Return a concrete function of `images`, uint8 `(n, h, w, 3)` of any n, h and w, with the outputs `OUTPUTS`."""

    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        pixels = combined.presentation(pad_empty(images))  # (v * max(n, 1), size, size, 3)
        features = combined.network(pixels, training=False)  # (max(n, 1), d)
        return answers_of(combined.head(features)[: tf.shape(images)[0]])

    return serve.get_concrete_function()


def pad_empty(images: Any) -> Any:
    """Return the images, or one black image if there are none: oneDNN's convolutions refuse an empty batch."""
    is_empty = tf.cast(tf.shape(images)[0] == 0, tf.int32)
    return tf.pad(images, [[0, is_empty], [0, 0], [0, 0], [0, 0]])


def answers_of(logits: Any) -> dict[str, Any]:
    """Return what every format answers: `probabilities (n, c)`, `logits (n, c)` and `class_index (n,)`."""
    return {
        "probabilities": tf.nn.softmax(logits),
        "logits": logits,
        "class_index": tf.argmax(logits, axis=-1),
    }
