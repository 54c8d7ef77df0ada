"""Predict: classes of images, from an exported model of any format alone.

Only what the model's format needs is imported.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfl import datasets
from tfl.artefacts.decoded import Decoded, decode_windows
from tfl.artefacts.exported import ExportedModel, open_model, shorten_message
from tfl.artefacts.feature_inputs import read_features
from tfl.artefacts.inputs import Image, find_images
from tfl.errors import DatasetError, ExportError
from tfl.files.paths import expand_user
from tfl.machine.progress import Progress
from tfl.specs import MAX_IMAGE_PIXELS, require_max_image_pixels

__all__ = ["BadImage", "Prediction", "find_images", "open_model", "predict", "predict_each"]

BATCH_BYTES = 32 << 20  # of decoded images in one batch; the model's float32 pixels take four times as much


@dataclass(frozen=True)
class Prediction:
    """A model's answer for an image.

    Attributes:
      image: its path, or the id of its row in a file of features; bytes that are not UTF-8 as
        backslash escapes.
      probabilities: by class name, in 0..1.
    """

    image: str
    class_name: str
    class_index: int
    probabilities: dict[str, float]


@dataclass(frozen=True)
class BadImage:
    """An image that a model has no answer for, and why."""

    image: str
    error: str


def predict(
    folder: Path | str, images: Sequence[Path | str], max_image_pixels: int = MAX_IMAGE_PIXELS
) -> list[Prediction]:
    """Return the classes of image files, from an exported model alone, in the order of the files.

    Args:
      images: image files; or files of features, if the model takes features: then an answer for each row.
      max_image_pixels: see `predict_each`.

    Raises:
      ExportError, ExtraError: see `open_model`.
      DatasetError: an image cannot be read, decoded or answered; the message names it.
    """
    files = [Image(expand_user(path)) for path in images]
    predictions = []
    for answer in list(predict_each(open_model(expand_user(folder)), files, max_image_pixels=max_image_pixels)):
        if isinstance(answer, BadImage):
            raise DatasetError(answer.error)
        predictions.append(answer)
    return predictions


def predict_each(
    model: ExportedModel,
    images: Sequence[Image],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> Iterator[Prediction | BadImage]:
    """Yield the answer for each image, in order, batch after batch.

    A model of features answers for each row of files of features, by its id.

    Args:
      on_progress: called after each window of images.
      max_image_pixels: most pixels (height x width) that an image may claim in its header; a larger
        one is bad.

    Raises:
      SpecError: `max_image_pixels` is below 1; or see `read_features`.
    """
    require_max_image_pixels(max_image_pixels)
    if model.num_features is not None:
        yield from _answer_files(model, images)
        return
    progress = Progress(len(images))
    for window in decode_windows(images, max_image_pixels):
        progress.finished += len(window)
        progress.computed += len(window)
        yield from _answer_window(model, window)
        window.clear()  # before the next images are decoded
        on_progress(progress)


def _answer_files(model: ExportedModel, files: Sequence[Image]) -> Iterator[Prediction]:
    """Yield the answer for each row of files of features."""
    assert model.num_features is not None
    for file in files:
        for ids, features in read_features(file, model.num_features):
            outputs = model.answer(features)
            for place, id_ in enumerate(ids):
                yield _make_prediction(id_, outputs, place, model.class_names)


def _answer_window(model: ExportedModel, window: list[Decoded]) -> list[Prediction | BadImage]:
    """Return the answer for each image, in order; those of one size are asked for together."""
    answers: list[Prediction | BadImage] = [BadImage(datasets.to_text(row.path), row.error) for row in window]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for position, row in enumerate(window):
        if row.pixels is not None:
            by_shape.setdefault(row.pixels.shape, []).append(position)
    for positions in by_shape.values():
        batch_size = max(1, BATCH_BYTES // window[positions[0]].num_bytes)
        for start in range(0, len(positions), batch_size):
            batch = positions[start : start + batch_size]
            for position, answer in zip(batch, _answer_batch(model, [window[i] for i in batch]), strict=True):
                answers[position] = answer
    return answers


def _answer_batch(model: ExportedModel, rows: list[Decoded]) -> list[Prediction | BadImage]:
    """Return answers for images of one size; if the runtime fails, each is tried alone, and named if that fails too."""
    pixels = [row.pixels for row in rows if row.pixels is not None]
    try:
        outputs = model.answer(pixels[0][None] if len(pixels) == 1 else np.stack(pixels))  # one needs no copy
    except ExportError:  # the model is at fault, not these images
        raise
    except Exception as error:  # noqa: BLE001 -- each runtime raises its own, of too little memory too
        if len(rows) > 1:
            return [answer for row in rows for answer in _answer_batch(model, [row])]
        return [BadImage(datasets.to_text(rows[0].path), _describe_failure(rows[0], error))]
    names = [datasets.to_text(row.path) for row in rows]
    return [_make_prediction(name, outputs, place, model.class_names) for place, name in enumerate(names)]


def _describe_failure(row: Decoded, error: Exception) -> str:
    assert row.pixels is not None
    height, width, _ = row.pixels.shape
    return (
        f"the model could not answer for the image {datasets.to_text(row.path)} of {width:,} x {height:,} pixels: "
        f"{shorten_message(error)}; if memory does not suffice, make it smaller"
    )


def _make_prediction(name: str, outputs: dict[str, np.ndarray], place: int, class_names: tuple[str, ...]) -> Prediction:
    index = int(outputs["class_index"][place])
    shares = np.asarray(outputs["probabilities"][place]).tolist()
    probabilities = dict(zip(class_names, shares, strict=True))
    return Prediction(name, class_names[index], index, probabilities)
