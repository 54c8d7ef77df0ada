"""Checksums of a run's files: they show whether a file is still what training wrote."""

import os
from collections.abc import Mapping
from pathlib import Path

from tfl.errors import RunError
from tfl.files import hashing, strict_json
from tfl.files.codec import Sha256, decode_record
from tfl.runs.json_files import read_json, write_json

CHECKSUMS = "checksums.json"
RECORD = "run.json"


def write_checksums(folder: Path) -> None:
    """Write the sha256 of every file of a run folder into that folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    digests = {path.name: hashing.hash_file(path) for path in files}
    write_json(folder / CHECKSUMS, digests)


def read_checksums(folder: Path) -> dict[str, str] | None:
    """Return the sha256 that each file had after training; None for a run from before they were noted.

    Raises:
      RunError: the file of checksums is damaged.
    """
    path = folder / CHECKSUMS
    if not os.path.lexists(path):
        return None
    values = read_json(path)
    try:
        digests = decode_record(values, dict[str, Sha256])
    except ValueError as error:
        raise RunError(f"{path} does not list the sha256 of each file of the run: {error}; train again") from error
    if RECORD not in digests:
        raise RunError(f"{path} does not list the sha256 of {RECORD}; train again")
    return digests


def require_file(path: Path) -> None:
    """Refuse a path that is no plain file.

    Raises:
      RunError: see `strict_json.require_file`.
    """
    try:
        strict_json.require_file(path)
    except ValueError as error:
        raise RunError(f"{path} is no file of a run: {error}; train again") from error


def require_unchanged(path: Path, digests: Mapping[str, str] | None) -> None:
    """Refuse a file of a run folder that is not what training wrote.

    Args:
      digests: see `read_checksums`; if None, any plain file is accepted.

    Raises:
      RunError: it was changed, was added later, or is gone.
    """
    require_file(path)
    if digests is None:
        return
    if path.name not in digests:
        raise RunError(f"{path} was added after training; {CHECKSUMS} lists {', '.join(sorted(digests))}")
    received, expected = _hash_file(path), digests[path.name]
    if received != expected:
        raise RunError(
            f"{path} was changed after training: its sha256 is {received[:12]}..., {expected[:12]}... was "
            "expected; take the run folder from a backup, or train again"
        )


def _hash_file(path: Path) -> str:
    try:
        return hashing.hash_file(path)
    except ValueError as error:
        raise RunError(f"{path} cannot be compared with its sha256: {error}; train again") from error
