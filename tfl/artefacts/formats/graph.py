"""The TensorFlow graph that other formats are converted from: one function."""

from typing import Any

import tensorflow as tf

from tfl.artefacts.combined import Combined
from tfl.artefacts.formats.saved_model import IMAGES, answers_of, not_empty

OUTPUTS = ("class_index", "logits", "probabilities")  # in the order in which a function has them


def traced(combined: Combined) -> Any:
    """A concrete function of `images`, uint8 `(n, h, w, 3)` of any n, h and w, with the outputs `OUTPUTS`."""

    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        features = combined.network(combined.shown(not_empty(images)), training=False)
        return answers_of(combined.head(features)[: tf.shape(images)[0]])

    return serve.get_concrete_function()
