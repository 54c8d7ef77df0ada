"""Image files by name: in a folder, or by a shell pattern. One rule for every command."""

import fnmatch
import glob
import os
import stat
from pathlib import Path

from tfl.datasets.walk import is_hidden_name, is_image_name, list_tree, scan


def is_image_file(path: Path) -> bool:
    """Return whether there is an image file by its name: a regular file, not hidden, with an image's suffix.

    A broken link counts as one: whoever reads it reports that it is bad.
    """
    if not is_image_name(path):
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def list_images(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it, sorted by path; warn of the folders that are skipped.

    Hidden files and folders are left out. Links are followed, and each folder is listed once.
    """
    listing = list_tree(folder)
    listing.warn_repeated()
    listing.warn_unreadable()
    return sorted(listing.images)


def expand_pattern(pattern: str) -> list[Path]:
    """Return the files and folders that match a shell pattern, sorted.

    `**` matches any number of folders; links are followed and each folder is listed once, where the
    standard library would follow a link that leads back again and again. Names that begin with a
    dot need a pattern that does.
    """
    path = Path(pattern)
    found = {Path(path.anchor)}
    parts = path.parts[1:] if path.anchor else path.parts
    for part in parts:
        matches = [_match(folder, part) for folder in found]
        found = set().union(*matches)
    return sorted(found)


def _match(folder: Path, part: str) -> list[Path]:
    """Return the paths in a folder (below it for `**`) that match one part of a pattern."""
    if part == "**":
        below = list_tree(folder).folders.values()
        return [each for each in below if not _is_hidden_below(folder, each)]
    if not glob.has_magic(part):
        return [folder / part] if os.path.lexists(folder / part) else []
    try:
        entries = scan(folder)
    except OSError:
        return []
    paths = [entry.path for entry in entries if part.startswith(".") or not is_hidden_name(entry.path)]
    return [path for path in paths if fnmatch.fnmatchcase(path.name, part)]


def _is_hidden_below(folder: Path, path: Path) -> bool:
    return any(name.startswith(".") for name in path.relative_to(folder).parts)
