"""The record of an export format, and the file that holds it.

A format is one Python file with three functions: `save` writes a model, `open_model` opens one with
the format's own runtime, and `make_format` returns the record. At its top level such a file imports
the standard library and numpy alone: `runtimes` loads it by its path in a process that has nothing
of tfl. What else `save` needs, it imports itself.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tfl.errors import ExtraError
from tfl.machine import packages
from tfl.specs.features import FLOAT_DTYPES

if TYPE_CHECKING:
    import numpy as np

    from tfl.artefacts.combined import Combined

Answer = Callable[["np.ndarray"], "dict[str, np.ndarray]"]
"""uint8 images `(n, h, w, 3)`, or features `(n, d)` for a head alone, to `probabilities (n, c)`, `logits (n, c)` and
`class_index (n,)`."""

ReadImages = Callable[[], "Sequence[np.ndarray]"]
"""Returns training images, uint8 `(h, w, 3)` each; or features `(d,)` for a head alone."""

ALL_RESIZE_MODES = ("stretch", "crop", "pad")


@dataclass(frozen=True)
class Quantization:
    """A way to store weights, and the difference from the head's answers that it may cause.

    Attributes:
      words: for the model card.
      tolerance: largest difference of a logit that rounding may cause, as a share of the largest
        logit.
      least_same_class: least share of images with the same class, where that tolerance alone would
        let others pass.
    """

    name: str
    words: str
    tolerance: float = 0.0
    least_same_class: float = 0.0


@dataclass(frozen=True)
class Tolerance:
    """What a runtime of its own rounding may differ by.

    Attributes:
      error: largest difference of a logit, as a share of the largest logit.
      least_same_class: least share of images with the same class.
    """

    error: float
    least_same_class: float = 0.0


FLOAT32 = Quantization("none", "float32")
FLOAT16 = Quantization("float16", "stored as float16", tolerance=1e-2)
INT8 = Quantization("int8", "int8, and activations too", tolerance=5e-1, least_same_class=0.9)


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
      name: as it is typed.
      summary: what it is, in a few words.
      file: the file in a model's folder that opens it.
      save: `save(combined, path, quantize, read_images)` writes `path`, the folder's `file`, and
        what belongs to it. `read_images` returns training images to measure the ranges of
        activations on.
      open_model: `open_model(path)` opens that file and returns the function that answers.
      call: Python code that calls the model in the folder `MODEL` on `images`; for the model card.
      safety: whether opening a file can run code that it holds; for the model card.
      packages: distributions that convert and run it, whose versions are noted.
      extra: the extra of tfl that installs them.
      runtime: what opens it, where no extra installs that.
      quantizations: how it can store weights.
      is_traced_by_tensorflow: it is made from a TensorFlow graph: it needs that backend, and
        carries layers of any kind.
      needs_portable_resizing: its converter lacks the operations that Keras resizes with.
      needs_keras: `open_model` needs Keras.
      takes_encoded_images: it also answers for encoded images `(n,)`.
      takes_empty_batch: it answers for no images.
      compute_dtypes: arithmetic of the backbones that it can carry; of others it carries the
        float32 network.
      tolerances: by compute dtype, where the runtime rounds otherwise than the cached features' engine.
      calls: Python code instead of `call`, by compute dtype.
      resize_modes: those that it can carry.
      why_resize_modes: why not the others.
      description_folder: where in a model's folder `tfl.json` lies.
      serving: a further section of the model card; MAX_IMAGE_PIXELS stands for the bound on encoded
        images.
    """

    name: str
    summary: str
    file: str
    save: "Callable[[Combined, Path, str, ReadImages], None]"
    open_model: Callable[[Path], Answer]
    call: str
    safety: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    runtime: str = ""
    quantizations: tuple[Quantization, ...] = (FLOAT32,)
    is_traced_by_tensorflow: bool = False
    needs_portable_resizing: bool = False
    needs_keras: bool = False
    takes_encoded_images: bool = False
    takes_empty_batch: bool = False
    compute_dtypes: tuple[str, ...] = FLOAT_DTYPES
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    calls: Mapping[str, str] = field(default_factory=dict)
    resize_modes: tuple[str, ...] = ALL_RESIZE_MODES
    why_resize_modes: str = ""
    description_folder: str = ""
    serving: str = ""

    @property
    def path(self) -> Path:
        """The Python file of this format."""
        return Path(inspect.getfile(self.open_model))

    @property
    def hidden_packages(self) -> tuple[str, ...]:
        """Packages that a fresh process must do without when it opens a model of this format."""
        return ("tfl",) if self.needs_keras else ("tfl", "keras")

    def find_quantization(self, name: str) -> Quantization | None:
        """Return how weights are stored under this name; None if the format cannot do it."""
        return next((each for each in self.quantizations if each.name == name), None)

    def missing_package_error(self, error: ImportError) -> ExtraError:
        """Return what to raise where a package of this format could not be imported."""
        if self.extra:
            return packages.missing_package_error(error, self.extra)
        return ExtraError(f"{self.name} needs {self.runtime}, which cannot be imported here: {error}")
