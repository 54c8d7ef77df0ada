"""Classes of images, from an exported model of any format alone; what the format does not need is not imported."""

import glob
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfl import batches, datasets, extras, served
from tfl.errors import DatasetError, ExportError

DESCRIPTION = "tfl.json"
STDIN = "-"


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


def description_path(folder: Path, model_format: str) -> Path:
    """Where an exported model's `tfl.json` is; `assets.extra` is the SavedModel format's place for others' files."""
    return folder / "assets.extra" / DESCRIPTION if model_format == "saved-model" else folder / DESCRIPTION


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
    found = list(predictions(open_model(folder), [Image(path) for path in images]))
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
    """An exported model, ready to answer.

    Raises:
      ExportError: the folder is none.
      ExtraError: the runtime of its format is not installed.
    """
    name = served.format_of(folder)
    try:
        if name is None:
            raise ValueError(f"it holds none of {', '.join(served.FILES.values())}")
        description = json.loads(description_path(folder, name).read_text())
        return Model(list(description["class_names"]), served.open_model(folder))
    except ImportError as error:
        raise extras.missing(error, str(name)) from error
    except Exception as error:  # each runtime raises its own of what it cannot load
        raise ExportError(f"{folder} is not a model that `tfl export` made: {error}") from error


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
