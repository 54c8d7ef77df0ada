"""Image files that are examined when a dataset is opened, and compared with that when they are read."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from tfl.datasets.images import require_image
from tfl.errors import DatasetError
from tfl.machine.batching import MAX_BATCH_BYTES, parallel_map

Item = TypeVar("Item")
Result = TypeVar("Result")

# Decoded. Two threads on two cores read 0.96 times as many images of 96 x 96 pixels as one does,
# and 1.4 of 256 x 256.
SMALL_BYTES = 1 << 15
UNREADABLE = "unreadable"  # in place of the digest of a file that cannot be read


class Examined(NamedTuple):
    """What opening a dataset found out about one image file."""

    digest: bytes
    """The sha256 of the content, 32 bytes; empty if the file cannot be read."""
    num_bytes: int
    """Bytes of the decoded image."""
    reason: str
    """Why the file cannot be used; empty if it can."""

    @property
    def digest_text(self) -> str:
        """The digest as it enters the version of a dataset: 64 hex digits, or `unreadable`."""
        return self.digest.hex() or UNREADABLE


def examine_image(read: Callable[[], bytes], name: str, max_pixels: int) -> Examined:
    """Hash an image file and read its header; decode only a file that may be truncated.

    Args:
      read: returns the content; a DatasetError says why it cannot.
      name: of the file, for messages.
      max_pixels: most pixels (height x width) that the header may claim.
    """
    digest = b""
    try:
        content = read()
        digest = hashlib.sha256(content).digest()
        return Examined(digest, require_image(content, name, max_pixels), "")
    except (DatasetError, MemoryError) as error:
        return Examined(digest, 0, str(error) or f"{name} takes more memory than there is")


def require_unchanged(content: bytes, examined: Examined, name: str) -> None:
    """Refuse a content that is not the one in the dataset's version.

    Raises:
      DatasetError: names the file.
    """
    if hashlib.sha256(content).digest() != examined.digest:
        raise DatasetError(f"{name} has changed since the command began; give the command again")


def read_ahead(
    read: Callable[[Item], Result], items: Sequence[Item], num_bytes_of: Callable[[Item], int], num_threads: int = 0
) -> Iterator[Result]:
    """Yield what `read` returns for each item; large images are read by several threads, small ones are faster without.

    Args:
      num_bytes_of: bytes of an item's image when decoded.
      num_threads: threads to read with, however small the images are: they wait for another machine. 0 leaves it to
        the images' sizes.
    """
    if num_threads == 0 and max(map(num_bytes_of, items), default=0) < SMALL_BYTES:
        return map(read, items)
    return parallel_map(read, items, num_bytes_of, MAX_BATCH_BYTES // 4, num_threads)
