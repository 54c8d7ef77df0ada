"""The sha256 of files, by which tfl recognises what it wrote or fetched."""

import hashlib
from pathlib import Path

from tfl.files.strict_json import require_file


def hash_file(path: Path) -> str:
    """Return the sha256 of a plain file, in 64 hex digits.

    Raises:
      ValueError: see `require_file`; or it cannot be read.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error


def hash_bytes(content: bytes) -> str:
    """Return the sha256 of bytes, in 64 hex digits."""
    return hashlib.sha256(content).hexdigest()
