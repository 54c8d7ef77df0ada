"""The images that a user names: files, folders, patterns, or what comes through standard input."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tfl import datasets
from tfl.errors import DatasetError

STDIN = "-"


@dataclass(frozen=True)
class Image:
    """An image to classify.

    Attributes:
      content: the encoded image, if it came through a pipe; None if it is to be read from `path`.
    """

    path: Path
    content: bytes | None = None


def find_images(words: Iterable[str], stdin: BinaryIO) -> list[Image]:
    """Return the images that some words name.

    Args:
      words: files; folders, for every image below them, in order of path; patterns such as `*.jpg`
        or `photos/**/*.png`, for the images and folders that match; or `-` for `stdin`: one encoded
        image, or the paths of images, one a line or each followed by a zero byte (`find -print0`).

    Raises:
      DatasetError: a folder, a pattern or `stdin` has no image.
    """
    return [image for word in words for image in _find(word, stdin)]


def _find(word: str, stdin: BinaryIO) -> list[Image]:
    if word == STDIN:
        return _read_pipe(stdin.read())
    path = Path(word)
    if path.is_dir():
        return _require_some(_list_images(path), f"the folder {word} holds no image")
    if not path.exists() and glob.has_magic(word):
        found = [image for match in datasets.expand_pattern(word) for image in _list_images(match)]
        return _require_some(sorted(set(found)), f"no image matches {word}")
    return [Image(path)]


def _list_images(path: Path) -> list[Path]:
    """Return a file if its name is that of an image, or every such file below a folder."""
    if path.is_dir():
        return datasets.list_images(path)
    return [path] if datasets.is_image_file(path) else []


def _require_some(paths: list[Path], sentence: str) -> list[Image]:
    if not paths:
        raise DatasetError(f"{sentence}; expected files ending in {' '.join(sorted(datasets.image_suffixes()))}")
    return [Image(path) for path in paths]


def _read_pipe(content: bytes) -> list[Image]:
    """Return the image that standard input holds, or the images that it lists."""
    paths = [Path(os.fsdecode(name)) for name in _split_names(content)]
    if not paths:
        raise DatasetError("standard input is empty; expected an encoded image, or paths of images, one a line")
    return [Image(path) for path in paths] if _is_list(content, paths) else [Image(Path(STDIN), content)]


def _split_names(content: bytes) -> list[bytes]:
    """Split a list at zero bytes if it has any, else at newlines, each with or without a return before it.

    Nothing else ends a line: U+2028, U+0085, vertical tabs and form feeds may be part of a name.
    """
    names = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    if b"\0" in content:
        names = content.split(b"\0")
    return [name for name in names if name]


def _is_list(content: bytes, paths: list[Path]) -> bool:
    """Return True if these are paths, and not the bytes of an image taken apart.

    Names can begin as images do (`BM photo.jpg`, `P6 1 1 255 x.ppm`), and an image's bytes can be
    all text (`P3 ...`). First: is there a file of a listed name? Of the names after the first, only
    those with an image's suffix are looked up: a PPM has a line such as `255`, and a file of that
    name says nothing. Then: does Pillow know the content's beginning as an image's? Content with
    zero bytes that is neither is a list if one name has an image's suffix; otherwise it is a
    damaged image.
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
