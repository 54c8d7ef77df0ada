"""LiteRT (formerly TensorFlow Lite), converted by TensorFlow and run by `ai-edge-litert`."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfl.artefacts.combined import Combined
from tfl.artefacts.formats.saved_model import IMAGES, answers_of
from tfl.files.scratch import scratch_folder
from tfl.machine.packages import require_package


def save(combined: Combined, path: Path, quantize: str, calibration: Sequence[np.ndarray]) -> None:
    """Write the file: signature `serving_default`, one image or more.

    Args:
      quantize: `none`; `float16`: weights are stored rounded, and widened when the file is opened; `int8`: weights and
        activations are 8-bit integers.
      calibration: of int8, images `(h, w, 3)` on which the ranges of activations are measured.
    """
    require_package("ai_edge_litert.interpreter", "litert")  # what the gate needs

    # No `not_empty`: a padding that depends on n makes every shape behind it unknown to the XNNPACK delegate.
    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        return answers_of(combined.head(combined.network(combined.shown(images), training=False)))

    def samples() -> Iterator[dict[str, np.ndarray]]:
        return ({"images": image[None]} for image in calibration)

    with scratch_folder() as folder:
        module = tf.Module()
        module.weights = [each.value for part in (combined.network, combined.head) for each in part.variables]
        module.serve = serve
        tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"])
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        elif quantize == "int8":
            converter.representative_dataset = samples
        with warnings.catch_warnings():  # TensorFlow calibrates with an interpreter that it warns of itself
            warnings.filterwarnings("ignore", "\\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
            path.write_bytes(converter.convert())
