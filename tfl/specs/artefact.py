"""Artefact: an exported model, and what it must prove."""

from dataclasses import dataclass

from tfl.errors import SpecError
from tfl.specs.limits import MAX_IMAGE_PIXELS, require_max_image_pixels


@dataclass(frozen=True)
class Artefact:
    """An exported model, and what it must prove before it is kept.

    The format's record says whether it can do what is asked; see `tfl.artefacts.formats`.
    """

    format: str = "saved-model"
    """A TensorFlow SavedModel, a `.keras` file, ONNX, LiteRT, OpenVINO IR, or a PyTorch program (`.pt2`)."""
    quantize: str = "none"
    """`float16` halves the size of the weights.
    `int8` (litert only) also computes with them, calibrated on images."""
    fold_batch_norm: bool = True
    """Fold each BatchNormalization into the convolution before it."""
    assert_accuracy_at_least: float = 0.0
    """Measure the exported model's accuracy (0 to 1) on all test images.
    Keep nothing if it is below this."""
    max_image_pixels: int = MAX_IMAGE_PIXELS
    """Most pixels (height x width) of an encoded image that a SavedModel's `serve_bytes` decodes."""

    def __post_init__(self) -> None:
        if not 0 <= self.assert_accuracy_at_least <= 1:
            raise SpecError(f"assert_accuracy_at_least is in 0..1, got {self.assert_accuracy_at_least}")
        require_max_image_pixels(self.max_image_pixels)
