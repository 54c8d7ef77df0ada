"""Image files on other machines, by URI, read through fsspec: https, and object storage."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tfl.datasets.image_files import Examined, examine_image, require_unchanged
from tfl.errors import DatasetError, ExtraError
from tfl.machine.packages import require_package
from tfl.text import to_one_line

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

SECONDS_BEFORE_RETRY = 1.0
# What an answer may say in place of the content, in lower case and without - and _, as fsspec's file systems
# spell it. A digest or a version stands alone, a time only together with the size.
DIGESTS = ("etag", "contentmd5", "md5hash", "digest", "checksum", "crc32c", "sha")
TIMES = ("lastmodified", "mtime", "updated")
DECODED_PER_BYTE = 20  # a photo as a JPEG file of good quality takes a tenth to a twentieth of its pixels
UNKNOWN_BYTES = 36 << 20  # 12 megapixels


class RemoteFile:
    """An image file by its URI.

    Its digest is made from what the other machine says of it (an ETag or a digest, or time and size): nothing is
    downloaded to open a dataset. Where it says nothing of the kind, the content is read and hashed.
    """

    __slots__ = ("_identity", "_size", "key")
    num_threads = 16

    def __init__(self, uri: str) -> None:
        self.key = uri
        self._identity = ""
        self._size: int | None = None

    @property
    def name(self) -> str:
        return self.key

    def find_fault(self) -> str:
        """Ask for the file, and keep what stands for its content; return why there is no such file."""
        try:
            info = _try_twice(self.key, lambda system, path: system.info(path))
        except FileNotFoundError:
            return "there is no such file"
        if info.get("type") == "directory":
            return "it is a folder"
        self._size = info.get("size")
        self._identity = _identify(info)
        return ""

    def examine(self, max_pixels: int) -> Examined:
        """Return what stands for the content; its header is read only if the content is."""
        if not self._identity:
            return examine_image(self._download, self.name, max_pixels)
        num_bytes = UNKNOWN_BYTES if self._size is None else DECODED_PER_BYTE * self._size
        return Examined(hashlib.sha256(self._identity.encode()).digest(), num_bytes, "")

    def read(self, examined: Examined) -> bytes:
        """Return the content, compared by its digest if that is known, or else by its size."""
        content = self._download()
        if not self._identity:
            require_unchanged(content, examined, self.name)
        elif self._size not in (None, len(content)):
            raise DatasetError(
                f"{self.name} has changed since the command began, or was cut short: {len(content):,} bytes came, "
                f"{self._size:,} were announced; give the command again"
            )
        return content

    def _download(self) -> bytes:
        try:
            return _try_twice(self.key, lambda system, path: bytes(system.cat_file(path)))
        except FileNotFoundError as error:
            raise DatasetError(f"there is no {self.name} any more; give the command again") from error


def _identify(info: Mapping[str, Any]) -> str:
    """Return the digest or version of a file, or its time and size, as text; empty if neither is known."""
    known = {name.lower().replace("-", "").replace("_", ""): value for name, value in info.items() if value}
    for name in DIGESTS:
        if name in known:
            return f"{name} {known[name]} {known.get('size')}"
    for name in TIMES:
        if name in known and "size" in known:
            return f"{name} {known[name]} {known['size']}"
    return ""


def _try_twice(uri: str, work: Callable[[Any, str], Result]) -> Result:
    """Return what `work` returns for the file system and path of a URI; try again after a while, once.

    Raises:
      FileNotFoundError: the other machine says that there is no such file.
      ExtraError: a package for such URIs is not installed.
      DatasetError: it failed both times.
    """
    try:
        return _try_once(uri, work)
    except _FailedError as error:
        logger.info("%s; trying again", error)
        time.sleep(SECONDS_BEFORE_RETRY)
    try:
        return _try_once(uri, work)
    except _FailedError as error:
        raise DatasetError(f"{error}; tried twice; give the command again when it can be reached") from error


class _FailedError(Exception):
    """An attempt that may succeed the next time."""


def _try_once(uri: str, work: Callable[[Any, str], Result]) -> Result:
    system, path = _open_system(uri)
    try:
        return work(system, path)
    except FileNotFoundError as error:
        if _is_missing(error):
            raise
        raise _FailedError(f"cannot read {uri}: {to_one_line(error.__cause__ or error)}") from error
    except Exception as error:  # each file system has errors of its own
        raise _FailedError(f"cannot read {uri}: {to_one_line(error)}") from error


def _open_system(uri: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URI, which fsspec keeps, and the path in it."""
    core = require_package("fsspec.core", "remote")
    try:
        system, path = core.url_to_fs(uri)
    except ImportError as error:
        reason = to_one_line(error)
        raise ExtraError(f"{uri} cannot be read: {reason} (for https: pip install '.[remote]')") from error
    except ValueError as error:
        raise DatasetError(f"{uri} cannot be read: {to_one_line(error)}") from error
    return system, path


def _is_missing(error: FileNotFoundError) -> bool:
    """Return whether the file is missing: over https, fsspec 2026.9 says so too when the machine does not answer."""
    cause = error.__cause__
    is_of_http = type(cause).__module__.split(".")[0] == "aiohttp" or isinstance(cause, TimeoutError)
    return not is_of_http or getattr(cause, "status", None) in (404, 410)
