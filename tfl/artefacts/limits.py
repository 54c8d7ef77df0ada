"""What each format can carry (tf2onnx 1.17, TensorFlow 2.21, OpenVINO 2026.4, PyTorch 2.13)."""

import keras

from tfl.cache import Cache
from tfl.errors import ExportError
from tfl.runs.run import Run
from tfl.specs import Artefact, Format

CONVERTED: tuple[Format, ...] = ("onnx", "litert", "openvino", "torch")
FROM_TENSORFLOW: tuple[Format, ...] = ("saved-model", "onnx", "litert", "openvino")
COMPUTE_DTYPES: dict[Format, tuple[str, ...]] = {
    "onnx": ("float32", "float16"),
    "litert": ("float32",),
    "openvino": ("float32", "float16"),
}


def require_possible(run: Run, cache: Cache, artefact: Artefact) -> None:
    """Refuse what is known not to work, before anything is built.

    Raises:
      ExportError: what was asked for, and what the format can do.
    """
    name, backend, spec = artefact.format, keras.backend.backend(), cache.spec.features
    if name in FROM_TENSORFLOW and backend != "tensorflow":
        raise ExportError(f"the format {name} needs KERAS_BACKEND=tensorflow, got {backend}")
    if name not in FROM_TENSORFLOW and _votes(run):
        raise ExportError(
            f"the head of {run.folder} votes among neighbours in a layer of tfl's own, which the format {name} cannot "
            f"carry; choose one of {', '.join(FROM_TENSORFLOW)}"
        )
    if name == "torch" and spec.resize_mode != "stretch":
        raise ExportError(
            "PyTorch cannot trace resizing that keeps the aspect ratio for images of any size: the format torch is for "
            f"resize_mode stretch, got {spec.resize_mode}"
        )
    if name == "openvino" and spec.resize_mode == "pad":
        raise ExportError(
            "OpenVINO 2026.4 answers from uninitialised memory where the first image that it pads is smaller than "
            "image_size: the format openvino is for resize_mode stretch and crop, got pad"
        )
    if name in COMPUTE_DTYPES and spec.compute_dtype not in COMPUTE_DTYPES[name]:
        raise ExportError(
            f"the format {name} computes in {' or '.join(COMPUTE_DTYPES[name])}, and this backbone in "
            f"{spec.compute_dtype}; choose the format saved-model or keras"
        )
    if artefact.assert_accuracy_at_least and "test" not in cache.num_rows:
        raise ExportError(f"{cache.path} has no test rows to measure accuracy on; leave --assert-accuracy-at-least out")


def _votes(run: Run) -> bool:
    """Whether the head is that of `knn`, asked for or chosen."""
    chosen = run.description.get("chosen") or {}
    return "knn" in (run.description["recipe"], chosen.get("recipe"))
