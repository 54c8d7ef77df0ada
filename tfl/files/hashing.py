"""The sha256 of files, by which tfl recognises what it wrote or fetched."""

import hashlib
from pathlib import Path
from typing import Any

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


def is_digest(value: Any) -> bool:
    """Return whether a value from JSON is a sha256 in hex digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
