"""Where the images of a table are: files of this machine, or URIs of others."""

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote_to_bytes

from tfl.datasets.image_files import Examined, examine_image, require_unchanged
from tfl.datasets.images import read_bytes
from tfl.datasets.remote_files import RemoteFile
from tfl.datasets.source import to_text

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[a-z]+::")  # `zip::` and such: what fsspec chains
_FILE = re.compile(r"file://(?:localhost)?(?=/)", re.IGNORECASE)


class Location(Protocol):
    """Where one image is."""

    key: str
    """Equal for two spellings of one path."""
    num_threads: int
    """Threads that read best together; 0 leaves it to the images' sizes."""

    @property
    def name(self) -> str:
        """The path or URI, for messages."""

    def find_fault(self) -> str:
        """Return why there is no such file; empty if there is one, readable or not.

        Raises:
          DatasetError: another machine does not say.
        """

    def examine(self, max_pixels: int) -> Examined:
        """Find out what is in the file, or what stands for it: after `find_fault`."""

    def read(self, examined: Examined) -> bytes:
        """Return the content.

        Raises:
          DatasetError: it cannot be read, or is not what was examined.
        """


class LocalFile:
    """A file of this machine.

    Args:
      path: absolute.
      key: the path without links among its folders.
    """

    __slots__ = ("_path", "key")
    num_threads = 0

    def __init__(self, path: str, key: str) -> None:
        self._path = path
        self.key = key

    @property
    def name(self) -> str:
        return to_text(Path(self._path))

    def find_fault(self) -> str:
        try:
            Path(self._path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return "there is no such file"
        except ValueError:  # a NUL inside it
            return "no file can have that name"
        except OSError:  # it is reported when it is read
            return ""
        return ""

    def examine(self, max_pixels: int) -> Examined:
        return examine_image(lambda: read_bytes(Path(self._path)), self.name, max_pixels)

    def read(self, examined: Examined) -> bytes:
        content = read_bytes(Path(self._path))
        require_unchanged(content, examined, self.name)
        return content


def locate_images(texts: Iterable[str], folder: Path) -> list[Location]:
    """Return where the images are that a table in `folder` names: paths, absolute or relative to it, or URIs."""
    resolve = cache(_resolve)  # for each folder once: it asks the disk for every part of a path
    locations: list[Location] = []
    for text in texts:
        if (match := _FILE.match(text)) or not _SCHEME.match(text):
            typed = os.fsdecode(unquote_to_bytes(text[match.end() :])) if match else text
            path = os.path.join(folder, typed)  # noqa: PTH118 -- Path takes three times as long
            parent, _, name = path.rpartition("/")
            locations.append(LocalFile(path, f"{resolve(parent or os.sep)}/{name}"))
        else:
            locations.append(RemoteFile(text))
    return locations


def _resolve(folder: str) -> str:
    """Return a folder's path without links; its own path if no folder can have that name."""
    try:
        return os.path.realpath(folder)
    except ValueError:  # a NUL inside it
        return folder
