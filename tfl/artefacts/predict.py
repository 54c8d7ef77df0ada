"""Classes of images, from an exported model of any format alone; what the format does not need is not imported."""

import glob
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfl import datasets
from tfl.artefacts import manifest, runtimes
from tfl.errors import DatasetError, ExportError
from tfl.files.paths import expand_user
from tfl.machine import batching, packages
from tfl.specs import MAX_IMAGE_PIXELS, require_max_image_pixels

STDIN = "-"
MAX_REASON = 500  # characters of what a runtime said
WINDOW_BYTES = 64 << 20  # of decoded images that wait to be answered, in which those of one size are found
BATCH_BYTES = 32 << 20  # of decoded images in one batch; the model's float32 pixels take four times as much


class Image(NamedTuple):
    """An image to classify: a file, or what came through a pipe."""

    path: Path
    content: bytes | None = None
    """Of what was not read from `path`."""


class Model(NamedTuple):
    """An exported model, opened by its format's runtime."""

    class_names: list[str]
    answer: runtimes.Answer


class Progress(NamedTuple):
    """How far `predictions` is."""

    total: int
    finished: int
    images_per_second: float


class _Loaded(NamedTuple):
    path: Path
    pixels: np.ndarray | None
    error: str = ""

    @property
    def num_bytes(self) -> int:
        return 0 if self.pixels is None else self.pixels.nbytes


def find_images(words: Iterable[str], stdin: BinaryIO) -> list[Image]:
    """The images that some words name.

    Args:
      words: files; folders, of which every image below them is meant, in order of path; patterns such as `*.jpg` or
        `photos/**/*.png`, of which the images are meant, and the folders; or `-` for `stdin`: one encoded image, or the
        paths of images, one a line or each followed by a zero byte (`find -print0`).

    Raises:
      DatasetError: a folder, a pattern or `stdin` has no image.
    """
    return [image for word in words for image in _found(word, stdin)]


def _found(word: str, stdin: BinaryIO) -> list[Image]:
    if word == STDIN:
        return _piped(stdin.read())
    path = Path(word)
    if path.is_dir():
        return _required(_images_at(path), f"the folder {word} holds no image")
    if not path.exists() and glob.has_magic(word):
        paths = {path for found in datasets.expand_pattern(word) for path in _images_at(found)}
        return _required(sorted(paths), f"no image is like {word}")
    return [Image(path)]


def _piped(content: bytes) -> list[Image]:
    """The image that standard input holds, or the images that it lists."""
    paths = [Path(os.fsdecode(name)) for name in _names(content)]
    if not paths:
        raise DatasetError("standard input is empty; expected an encoded image, or paths of images, one a line")
    return [Image(path) for path in paths] if _is_list(content, paths) else [Image(Path(STDIN), content)]


def _names(content: bytes) -> list[bytes]:
    """A list's entries: ended by zero bytes if there are any, else by newlines, each with or without a return before.

    Nothing else ends a line: U+2028, U+0085, vertical tabs and form feeds may be in a name.
    """
    names = content.split(b"\0") if b"\0" in content else [line.removesuffix(b"\r") for line in content.split(b"\n")]
    return [name for name in names if name]


def _is_list(content: bytes, paths: list[Path]) -> bool:
    """Whether these are paths, and not an image's bytes taken apart.

    Names can begin as images do (`BM photo.jpg`, `P6 1 1 255 x.ppm`), and an image's bytes can be all text (`P3 ...`).
    What counts is a file of a listed name, then whether Pillow knows the content's beginning as an image's. Of the
    names after the first only those with an image's suffix are looked up: a PPM has a line such as `255`, and a file of
    that name says nothing. Of a content with zero bytes that is neither, one such suffix makes a list, else it is
    taken for a damaged image.
    """
    named = [path for path in paths if path.suffix.lower() in datasets.image_suffixes()]
    if any(map(_exists, [paths[0], *named])):
        return True
    return not datasets.is_image(content) and (bool(named) or b"\0" not in content)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or a zero byte in it
        return False


def _images_at(path: Path) -> list[Path]:
    """A file that is an image by its name, or every such file below a folder."""
    if path.is_dir():
        return datasets.list_images(path)
    return [path] if datasets.is_image_file(path) else []


def _required(paths: list[Path], what: str) -> list[Image]:
    if not paths:
        raise DatasetError(f"{what}; expected files ending in {' '.join(sorted(datasets.image_suffixes()))}")
    return [Image(path) for path in paths]


def predict(folder: Path, images: Sequence[Path], max_image_pixels: int = MAX_IMAGE_PIXELS) -> list[dict[str, Any]]:
    """Classes of image files, from an exported model alone.

    Args:
      max_image_pixels: see `predictions`.

    Returns:
      For each image its `image` (path; what is not UTF-8 in backslash escapes), `class_name`, `class_index` and
      `probabilities` by class name, in 0..1.

    Raises:
      ExportError, ExtraError: see `open_model`.
      DatasetError: an image cannot be read or decoded, or not be answered; the message names it.
    """
    asked = [Image(expand_user(path)) for path in images]
    found = list(predict_each(open_model(folder), asked, max_image_pixels=max_image_pixels))
    for each in found:
        if "error" in each:
            raise DatasetError(each["error"])
    return found


def predict_each(
    model: Model,
    images: Sequence[Image],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> Iterator[dict[str, Any]]:
    """What `predict` returns, batch after batch, in order; of an image that is bad, `image` and `error`.

    Args:
      on_progress: called after each batch.
      max_image_pixels: most pixels (height x width) that an image may claim in its header; a larger one is bad.

    Raises:
      SpecError: `max_image_pixels` is below 1.
    """
    require_max_image_pixels(max_image_pixels)
    started = time.monotonic()
    finished = 0
    for window in _windows(images, max_image_pixels):
        finished += len(window)
        yield from _answered(model, window)
        window.clear()  # before the next images are decoded
        on_progress(Progress(len(images), finished, finished / max(time.monotonic() - started, 1e-9)))


def _windows(images: Iterable[Image], max_image_pixels: int) -> Iterator[list[_Loaded]]:
    """Decode as many images at a time as one batch has, or fewer that take WINDOW_BYTES: a large one comes alone."""
    window: list[_Loaded] = []
    num_bytes = 0
    for image in images:
        loaded = _loaded(image, max_image_pixels)
        if window and num_bytes + loaded.num_bytes > WINDOW_BYTES:
            yield window
            window, num_bytes = [], 0
        window.append(loaded)
        num_bytes += loaded.num_bytes
        del loaded
        if len(window) == batching.BATCH_SIZE or num_bytes > WINDOW_BYTES:
            yield window
            window, num_bytes = [], 0
    if window:
        yield window


def _answered(model: Model, window: list[_Loaded]) -> list[dict[str, Any]]:
    """What `predict` returns of each image, in their order; those of one size are asked for together."""
    found = [{"image": datasets.to_text(row.path), "error": row.error} for row in window]
    good = [i for i, row in enumerate(window) if row.pixels is not None]
    for group in batching.group_by_shape([window[i].pixels for i in good]):  # type: ignore[misc]
        places = [good[i] for i in group]
        at_once = max(1, BATCH_BYTES // window[places[0]].num_bytes)
        for start in range(0, len(places), at_once):
            batch = places[start : start + at_once]
            for place, answer in zip(batch, _asked(model, [window[i] for i in batch]), strict=True):
                found[place] = {"image": found[place]["image"], **answer}
    return found


def _asked(model: Model, rows: list[_Loaded]) -> list[dict[str, Any]]:
    """Answers for images of one size; where the runtime fails, each is asked for alone, and named if it fails again."""
    pixels = [row.pixels for row in rows if row.pixels is not None]
    try:
        outputs = model.answer(pixels[0][None] if len(pixels) == 1 else np.stack(pixels))  # one needs no copy
    except ExportError:  # not of these images
        raise
    except Exception as error:  # noqa: BLE001 -- each runtime raises its own, of too little memory too
        if len(rows) > 1:
            return [answer for row in rows for answer in _asked(model, [row])]
        return [{"error": _unanswered(rows[0].path, pixels[0], error)}]
    return [_named(outputs, place, model.class_names) for place in range(len(rows))]


def _unanswered(path: Path, pixels: np.ndarray, error: Exception) -> str:
    height, width, _ = pixels.shape
    return (
        f"the model could not answer for the image {datasets.to_text(path)} of {width:,} x {height:,} pixels: "
        f"{_line(error)}; if memory does not suffice, make it smaller"
    )


def open_model(folder: Path) -> Model:
    """Open an exported model, ready to answer; its files are held against their digests before a runtime opens them.

    Raises:
      ExportError: the folder is none, a file of it has changed, or it holds what may run code. The model that is
        returned raises it too, where its answers are not for its classes.
      ExtraError: the runtime of its format is not installed.
    """
    folder = expand_user(folder)
    found = manifest.read_manifest(folder)
    try:
        answer = runtimes.open_model(folder, found.format)
    except ImportError as error:
        raise packages.missing_package_error(error, found.format) from error
    except Exception as error:  # each runtime raises its own of what it cannot load
        raise ExportError(f"{folder} is not a model that `tfl export` made: {_line(error)}") from error
    return Model(found.class_names, lambda images: _checked(folder, answer, found.class_names, images))


def _checked(
    folder: Path, answer: runtimes.Answer, class_names: list[str], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Answers for some images, of as many classes as there are names."""
    outputs = answer(images)
    try:
        probabilities = np.asarray(outputs["probabilities"])  # (n, c)
        indices = np.asarray(outputs["class_index"])  # (n,)
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"the model in {folder} does not answer as an exported one: {_line(error)}") from error
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


def _loaded(image: Image, max_image_pixels: int) -> _Loaded:
    try:
        if image.content is None:
            return _Loaded(image.path, datasets.read_image(image.path, max_image_pixels))
        return _Loaded(image.path, datasets.decode_image(image.content, str(image.path), max_image_pixels))
    except DatasetError as error:
        return _Loaded(image.path, None, str(error))
    except MemoryError as error:
        reason = str(error) or f"too little memory to read {datasets.to_text(image.path)}"
        return _Loaded(image.path, None, reason)


def _named(outputs: dict[str, np.ndarray], row: int, class_names: list[str]) -> dict[str, Any]:
    index = int(outputs["class_index"][row])
    probabilities = dict(zip(class_names, np.asarray(outputs["probabilities"][row]).tolist(), strict=True))
    return {"class_name": class_names[index], "class_index": index, "probabilities": probabilities}
