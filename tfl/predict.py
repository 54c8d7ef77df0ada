"""Classes of images, from an exported model of any format alone; what the format does not need is not imported."""

import glob
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfl import batches, datasets, extras, manifest, served
from tfl.errors import DatasetError, ExportError
from tfl.paths import expanded

STDIN = "-"
MAX_REASON = 500  # characters of what a runtime said


class Image(NamedTuple):
    """An image to classify: a file, or what came through a pipe."""

    path: Path
    content: bytes | None = None
    """Of what was not read from `path`."""


class Model(NamedTuple):
    """An exported model, opened by its format's runtime."""

    class_names: list[str]
    answer: served.Answer


class Progress(NamedTuple):
    """How far `predictions` is."""

    total: int
    finished: int
    images_per_second: float


class _Loaded(NamedTuple):
    path: Path
    pixels: np.ndarray | None
    error: str = ""


def find_images(words: Iterable[str], stdin: BinaryIO) -> list[Image]:
    """The images that some words name.

    Args:
      words: files; folders, of which every image below them is meant, in order of path; patterns such as `*.jpg` or
        `photos/**/*.png`, of which the images are meant, and the folders; or `-` for `stdin`: one encoded image, or the
        paths of images, one a line.

    Raises:
      DatasetError: a folder, a pattern or `stdin` has no image.
    """
    return [image for word in words for image in _found(word, stdin)]


def _found(word: str, stdin: BinaryIO) -> list[Image]:
    if word == STDIN:
        content = stdin.read()
        if b"\0" in content:  # which every image format has, and no path
            return [Image(Path(STDIN), content)]
        lines = content.decode(errors="surrogateescape").splitlines()
        if not any(lines):
            raise DatasetError("standard input is empty; expected an encoded image, or paths of images, one a line")
        return [Image(Path(line)) for line in lines if line]
    path = Path(word)
    if path.is_dir():
        return _required(_images_at(path), f"the folder {word} holds no image")
    if not path.exists() and glob.has_magic(word):
        paths = {path for found in datasets.expand(word) for path in _images_at(found)}
        return _required(sorted(paths), f"no image is like {word}")
    return [Image(path)]


def _images_at(path: Path) -> list[Path]:
    """A file that is an image by its name, or every such file below a folder."""
    if path.is_dir():
        return datasets.list_images(path)
    return [path] if datasets.is_image_file(path) else []


def _required(paths: list[Path], what: str) -> list[Image]:
    if not paths:
        raise DatasetError(f"{what}; expected files ending in {' '.join(sorted(datasets.image_suffixes()))}")
    return [Image(path) for path in paths]


def predict(folder: Path, images: Sequence[Path]) -> list[dict[str, Any]]:
    """Classes of image files, from an exported model alone.

    Returns:
      For each image its `image` (path; what is not UTF-8 in backslash escapes), `class_name`, `class_index` and
      `probabilities` by class name, in 0..1.

    Raises:
      ExportError, ExtraError: see `open_model`.
      DatasetError: an image cannot be read or decoded; the message names it.
    """
    found = list(predictions(open_model(folder), [Image(expanded(path)) for path in images]))
    for each in found:
        if "error" in each:
            raise DatasetError(each["error"])
    return found


def predictions(
    model: Model, images: Sequence[Image], on_progress: Callable[[Progress], None] = lambda progress: None
) -> Iterator[dict[str, Any]]:
    """What `predict` returns, batch after batch, in order; of an image that is bad, `image` and `error`.

    Args:
      on_progress: called after each batch.
    """
    started = time.monotonic()
    finished = 0
    for chunk in batches.chunked(map(_loaded, images), _num_bytes, batches.NUM_IMAGES):
        answers: dict[int, dict[str, Any]] = {}
        good = [i for i, row in enumerate(chunk) if row.pixels is not None]
        for group in batches.alike([chunk[i].pixels for i in good]):  # type: ignore[misc]
            rows = [good[i] for i in group]
            outputs = model.answer(np.stack([chunk[i].pixels for i in rows]))  # type: ignore[misc]
            answers |= {row: _named(outputs, place, model.class_names) for place, row in enumerate(rows)}
        for i, row in enumerate(chunk):
            yield {"image": datasets.as_text(row.path), **answers.get(i, {"error": row.error})}
        finished += len(chunk)
        on_progress(Progress(len(images), finished, finished / max(time.monotonic() - started, 1e-9)))


def open_model(folder: Path) -> Model:
    """Open an exported model, ready to answer; its files are held against their digests before a runtime opens them.

    Raises:
      ExportError: the folder is none, a file of it has changed, or it holds what may run code. The model that is
        returned raises it too, where its answers are not for its classes.
      ExtraError: the runtime of its format is not installed.
    """
    folder = expanded(folder)
    found = manifest.read(folder)
    try:
        answer = served.open_model(folder, found.format)
    except ImportError as error:
        raise extras.missing(error, found.format) from error
    except Exception as error:  # each runtime raises its own of what it cannot load
        raise ExportError(f"{folder} is not a model that `tfl export` made: {_line(error)}") from error
    return Model(found.class_names, lambda images: _checked(folder, answer, found.class_names, images))


def _checked(folder: Path, answer: served.Answer, class_names: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
    """Answers for some images, of as many classes as there are names."""
    try:
        outputs = answer(images)
        probabilities = np.asarray(outputs["probabilities"])  # (n, c)
        indices = np.asarray(outputs["class_index"])  # (n,)
    except MemoryError:
        raise
    except Exception as error:  # each runtime raises its own
        raise ExportError(f"the model in {folder} could not answer: {_line(error)}") from error
    expected = (len(images), len(class_names))
    if probabilities.shape != expected or indices.shape != expected[:1]:
        raise ExportError(
            f"the model in {folder} answers with shape {probabilities.shape}, and {manifest.DESCRIPTION} names "
            f"{len(class_names)} classes: {expected} was expected; export again"
        )
    if not ((indices >= 0) & (indices < len(class_names))).all():
        raise ExportError(f"the model in {folder} answers with a class that it does not have; export again")
    return outputs


def _line(error: Exception) -> str:
    """What a runtime said, on one line and not too long."""
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__


def _loaded(image: Image) -> _Loaded:
    try:
        if image.content is None:
            return _Loaded(image.path, datasets.read_image(image.path))
        return _Loaded(image.path, datasets.decode_image(image.content, str(image.path)))
    except DatasetError as error:
        return _Loaded(image.path, None, str(error))


def _num_bytes(image: _Loaded) -> int:
    return 0 if image.pixels is None else image.pixels.nbytes


def _named(outputs: dict[str, np.ndarray], row: int, class_names: list[str]) -> dict[str, Any]:
    index = int(outputs["class_index"][row])
    probabilities = dict(zip(class_names, np.asarray(outputs["probabilities"][row]).tolist(), strict=True))
    return {"class_name": class_names[index], "class_index": index, "probabilities": probabilities}
