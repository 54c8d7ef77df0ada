"""An exported model, opened from its folder alone and checked as it answers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfl.artefacts import formats, manifest
from tfl.artefacts.formats import FORMATS, Answer
from tfl.errors import ExportError
from tfl.files.paths import expand_user
from tfl.text import to_one_line

MAX_REASON = 500  # characters of what a runtime said


@dataclass(frozen=True)
class ExportedModel:
    """An exported model, opened by its format's runtime.

    Attributes:
      answer: uint8 images `(n, h, w, 3)` to `probabilities (n, c)`, `logits (n, c)` and
        `class_index (n,)`; or float32 features `(n, d)` to the same.
      num_features: d, if it takes features; None if it takes images.
    """

    class_names: tuple[str, ...]
    answer: Answer
    num_features: int | None = None


def open_model(folder: Path) -> ExportedModel:
    """Open an exported model; its files are compared with their digests before a runtime opens them.

    Raises:
      ExportError: the folder is none, a file of it has changed, or it holds what may run code.
        `answer` raises it too, if its answers are not for the model's classes.
      ExtraError: the runtime of its format is not installed.
    """
    folder = expand_user(folder)
    found = manifest.read_manifest(folder)
    name = found.artefact.format
    try:
        answer = formats.open_model(folder, name)
    except ImportError as error:
        raise FORMATS[name].missing_package_error(error) from error
    except Exception as error:  # each runtime raises its own if it cannot load a file
        raise ExportError(f"{folder} is not a model that `tfl export` made: {shorten_message(error)}") from error
    names = found.class_names
    return ExportedModel(names, lambda batch: _answer(folder, answer, names, batch), found.num_features)


def _answer(folder: Path, answer: Answer, class_names: tuple[str, ...], images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the answers for some images, one probability for each class name."""
    outputs = answer(images)
    try:
        probabilities = np.asarray(outputs["probabilities"])  # (n, c)
        indices = np.asarray(outputs["class_index"])  # (n,)
    except (KeyError, TypeError, ValueError) as error:
        reason = shorten_message(error)
        raise ExportError(f"the model in {folder} does not answer as an exported one: {reason}") from error
    expected = (len(images), len(class_names))
    if probabilities.shape != expected or indices.shape != expected[:1]:
        raise ExportError(
            f"the model in {folder} answers with shape {probabilities.shape}, and {manifest.DESCRIPTION} names "
            f"{len(class_names)} classes: {expected} was expected; export again"
        )
    if not ((indices >= 0) & (indices < len(class_names))).all():
        raise ExportError(f"the model in {folder} answers with a class that it does not have; export again")
    return outputs


def shorten_message(error: Exception) -> str:
    """Return what a runtime said, on one line and not too long."""
    return to_one_line(error, MAX_REASON)
