"""What lies in a folder, and which of it is an image file: one rule for every command."""

import contextlib
import fnmatch
import glob
import logging
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from tfl.datasets import heif
from tfl.datasets.images import image_suffixes
from tfl.datasets.source import to_text
from tfl.text import to_printable

Identity = tuple[int, int]
"""Device and inode: the same for a folder and a link to it."""

MOST_SUFFIXES = 8  # that one message names

logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One name in a folder; links are followed."""

    path: Path
    kind: Literal["folder", "file", "special", "unreachable"]
    is_link: bool


@dataclass
class Found:
    """What lies in a folder and below it, each list in no particular order."""

    images: list[Path] = field(default_factory=list)
    """Regular files that are images by their names, and links of such names that lead nowhere."""
    hidden: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    """Files that are no images by their names, and what is no regular file under any name."""
    repeated: dict[Path, str] = field(default_factory=dict)
    """Folders that are not listed a second time, and why."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Folders that cannot be listed, and links that may be folders and lead nowhere; with the reason."""
    folders: dict[Identity, Path] = field(default_factory=dict)

    def add_file(self, entry: Entry, is_hidden: bool) -> None:
        """Sort in what is no folder."""
        if is_hidden:
            self.hidden.append(entry.path)
        elif is_image_name(entry.path) and entry.kind != "special":
            self.images.append(entry.path)
        elif entry.kind == "unreachable" and not entry.path.suffix:
            self.unreadable[entry.path] = "it is a link that leads nowhere"
        else:
            self.others.append(entry.path)

    def passed_over(self) -> dict[str, int]:
        """Count what is neither an image nor a folder, by suffix in lower case, the most frequent first."""
        counts = Counter(_suffix_of(path) for path in self.others)
        if self.hidden:
            counts["hidden"] = len(self.hidden)
        return dict(counts.most_common())


def is_hidden_name(path: Path) -> bool:
    """Return whether a name begins with a dot, as `._photo.jpg` and `.thumbnails` do."""
    return path.name.startswith(".")


def is_image_name(path: Path) -> bool:
    """Return whether a file is an image by its name."""
    return not is_hidden_name(path) and path.suffix.lower() in image_suffixes()


def is_image_file(path: Path) -> bool:
    """Return whether there is an image file by its name: a regular file, not hidden, with an image's suffix.

    A link that leads nowhere counts as one: whoever reads it says that it is bad.
    """
    if not is_image_name(path):
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def list_images(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it, sorted by path; say which folders were passed over.

    Hidden files and folders are left out. Links are followed, each folder is listed once.
    """
    found = find_files(folder)
    say_repeated(found)
    for path, reason in found.unreadable.items():
        logger.warning("passed over %s: %s", to_printable(to_text(path)), reason)
    return sorted(found.images)


def expand_pattern(pattern: str) -> list[Path]:
    """Return the files and folders that a shell pattern names, sorted.

    `**` stands for any number of folders, links followed and each folder listed once; the standard library's would
    follow a link that leads back again and again. Names that begin with a dot need a pattern that does.
    """
    path = Path(pattern)
    found = {Path(path.anchor)}
    parts = path.parts[1:] if path.anchor else path.parts
    for part in parts:
        found = {each for folder in found for each in _matches(folder, part)}
    return sorted(found)


def _matches(folder: Path, part: str) -> list[Path]:
    if part == "**":
        below = find_files(folder).folders.values()
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


def say_repeated(found: Found) -> None:
    """Warn of folders that were not listed a second time."""
    for path, reason in found.repeated.items():
        logger.warning("passed over %s: %s", to_printable(to_text(path)), reason)


def scan(folder: Path) -> list[Entry]:
    """Return the names in one folder, sorted.

    Raises:
      OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        return [_entry(entry) for entry in sorted(entries, key=lambda entry: entry.name)]


def _entry(entry: "os.DirEntry[str]") -> Entry:
    kind: Literal["folder", "file", "special", "unreachable"]
    try:
        if entry.is_file():
            kind = "file"
        elif entry.is_dir():
            kind = "folder"
        else:
            entry.stat()
            kind = "special"
    except OSError:  # a link that leads nowhere or round in a ring, or into a folder that may not be entered
        kind = "unreachable"
    return Entry(Path(entry.path), kind, entry.is_symlink())


class _Folder(NamedTuple):
    path: Path
    is_hidden: bool
    above: frozenset[Identity]
    """The folders that hold this one, by its name and by its real place."""


def find_files(folder: Path) -> Found:
    """Return what lies in a folder and below it.

    Linked folders are followed after all real ones, so that a folder that can be reached on two ways is listed once,
    under its real name where it has one in here. A link to a folder that holds it is not followed.
    """
    found = Found()
    folders = [_Folder(folder, False, _identities(_parents(folder)))]
    links: deque[_Folder] = deque()
    while folders or links:
        here = folders.pop() if folders else links.popleft()
        inside = _list_folder(here, found)
        links.extend(each for each, is_link in inside if is_link)
        folders.extend(each for each, is_link in reversed(inside) if not is_link)
    return found


def _list_folder(here: _Folder, found: Found) -> list[tuple[_Folder, bool]]:
    """Sort in a folder's files; return the folders in it, and whether each is a link."""
    try:
        status = here.path.stat()
        identity = status.st_dev, status.st_ino
        if identity in here.above:
            found.repeated[here.path] = "it leads back to a folder that holds it"
            return []
        if identity in found.folders:
            first = to_printable(to_text(found.folders[identity]))
            found.repeated[here.path] = f"it is the same folder as {first}, which is listed already"
            return []
        entries = scan(here.path)
    except OSError as error:
        if not here.is_hidden:
            found.unreadable[here.path] = error.strerror or str(error)
        return []
    found.folders[identity] = here.path
    inside = []
    for entry in entries:
        is_hidden = here.is_hidden or is_hidden_name(entry.path)
        if entry.kind != "folder":
            found.add_file(entry, is_hidden)
        elif not (is_hidden and entry.is_link):
            above = here.above | {identity}
            if entry.is_link:
                above |= _identities(_parents(entry.path))
            inside.append((_Folder(entry.path, is_hidden, above), entry.is_link))
    return inside


def _parents(path: Path) -> set[Path]:
    """The folders that hold a path, by its name and by its real place."""
    return {*path.absolute().parents, *path.resolve().parents}


def _identities(folders: Iterable[Path]) -> frozenset[Identity]:
    identities = set()
    for folder in folders:
        with contextlib.suppress(OSError):  # above the working directory, folders need not be within reach
            status = folder.stat()
            identities.add((status.st_dev, status.st_ino))
    return frozenset(identities)


def _suffix_of(path: Path) -> str:
    if is_image_name(path):
        return f"{path.suffix.lower()} that is no regular file"
    return to_printable(to_text(os.fsencode(path.suffix.lower()))) or "no suffix"


def counted(counts: dict[str, int]) -> str:
    """Return counts by suffix as words: `.txt (3), no suffix (1)`."""
    words = [f"{name} ({count})" for name, count in list(counts.items())[:MOST_SUFFIXES]]
    return ", ".join(words + ["..."] * (len(counts) > MOST_SUFFIXES))


def how_to_read(counts: dict[str, int]) -> str:
    """Return which extra reads files that were passed over, counted by suffix, or nothing."""
    return f" ({heif.HINT})" if heif.SUFFIXES & counts.keys() and not heif.is_readable() else ""
