"""LiteRT (formerly TensorFlow Lite), converted by TensorFlow and run by `ai-edge-litert`."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from tfl.artefacts.combined import Combined
    from tfl.artefacts.formats.format import Answer, Format, ReadImages

CALL = """from ai_edge_litert.interpreter import Interpreter

serve = Interpreter("MODEL/model.tflite", num_threads=4).get_signature_runner("serving_default")
answers = serve(images=images)  # probabilities, logits, class_index; n of 1 or more"""

SAFETY = "Opening it runs no code of the file: it is data, read in place."


def make_format() -> "Format":
    """Return the record of this format."""
    from tfl.artefacts.formats.format import FLOAT16, FLOAT32, INT8, Format

    return Format(
        name="litert",
        summary="LiteRT",
        file="model.tflite",
        save=save,
        open_model=open_model,
        call=CALL,
        safety=SAFETY,
        packages=("ai-edge-litert",),
        extra="litert",
        quantizations=(FLOAT32, FLOAT16, INT8),
        is_traced_by_tensorflow=True,
        needs_portable_resizing=True,
        compute_dtypes=("float32",),
    )


def save(combined: "Combined", path: Path, quantize: str, read_images: "ReadImages") -> None:
    """Write the file: signature `serving_default`, one image or more.

    `float16` stores weights rounded, and widens them when the file is opened; `int8` makes weights
    and activations 8-bit integers.
    """
    from tfl.files.scratch import scratch_folder
    from tfl.machine.packages import require_package

    require_package("ai_edge_litert.interpreter", "litert")  # the fresh process needs it
    import tensorflow as tf

    with scratch_folder() as folder:
        _save_graph(combined, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"])
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            images = read_images()
            converter.representative_dataset = lambda: _as_inputs(images, combined.takes.name)
        with warnings.catch_warnings():  # TensorFlow calibrates with an interpreter that it warns of itself
            warnings.filterwarnings("ignore", "\\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
            path.write_bytes(converter.convert())


def _save_graph(combined: "Combined", folder: Path) -> None:
    """Write a SavedModel with the one signature, to convert."""
    import tensorflow as tf

    from tfl.artefacts.formats import graph

    # No `graph.pad_empty`: a padding that depends on n makes every later shape unknown to the
    # XNNPACK delegate.
    @tf.function(input_signature=[graph.specify(combined.takes)], autograph=False)  # type: ignore[untyped-decorator]
    def serve(batch: Any) -> dict[str, Any]:
        features = combined.network(combined.presentation(batch), training=False)  # (n, d)
        return graph.answers_of(combined.head(features))

    module = tf.Module()
    module.weights = [each.value for part in (combined.network, combined.head) for each in part.variables]
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def _as_inputs(images: Any, name: str) -> "Iterator[dict[str, np.ndarray]]":
    """Yield images or features as the converter takes them, one at a time."""
    return ({name: image[None]} for image in images)


def open_model(path: Path) -> "Answer":
    """Open the file with LiteRT's interpreter, on all processors."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=_count_processors())  # its default is one
    interpreter.allocate_tensors()
    serve = interpreter.get_signature_runner("serving_default")
    (name,) = serve.get_input_details()
    return lambda batch: dict(serve(**{name: batch}))


def _count_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
