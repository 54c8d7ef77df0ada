"""Walking through a folder: images, other files, and folders that can be reached twice."""

import contextlib
import logging
import os
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
Kind = Literal["folder", "file", "special", "unreachable"]

MAX_SUFFIXES = 8  # in one message

logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One name in a folder; links are followed."""

    path: Path
    kind: Kind
    is_link: bool


@dataclass
class Listing:
    """The contents of a folder and of the folders below it, each list in no particular order."""

    images: list[Path] = field(default_factory=list)
    """Regular files that are images by their names, and broken links with such names."""
    hidden: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    """Files that are not images by their names, and whatever is not a regular file."""
    repeated: dict[Path, str] = field(default_factory=dict)
    """Folders that are not listed a second time, and why."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Folders that cannot be listed, and broken links that may be folders, with the reason."""
    folders: dict[Identity, Path] = field(default_factory=dict)

    def add_file(self, entry: Entry, is_hidden: bool) -> None:
        """Add what is not a folder to the list that it belongs to."""
        if is_hidden:
            self.hidden.append(entry.path)
        elif is_image_name(entry.path) and entry.kind != "special":
            self.images.append(entry.path)
        elif entry.kind == "unreachable" and not entry.path.suffix:
            self.unreadable[entry.path] = "it is a link that leads nowhere"
        else:
            self.others.append(entry.path)

    def count_skipped(self) -> dict[str, int]:
        """Count the files that are not used, by suffix in lower case, the most frequent first."""
        counts = Counter(_suffix_of(path) for path in self.others)
        if self.hidden:
            counts["hidden"] = len(self.hidden)
        return dict(counts.most_common())

    def warn_repeated(self) -> None:
        """Warn of folders that are not listed a second time."""
        for path, reason in self.repeated.items():
            logger.warning("skipped %s: %s", to_printable(to_text(path)), reason)

    def warn_unreadable(self) -> None:
        """Warn of folders and links that cannot be read."""
        for path, reason in self.unreadable.items():
            logger.warning("skipped %s: %s", to_printable(to_text(path)), reason)


def is_hidden_name(path: Path) -> bool:
    """Return whether a name begins with a dot, as `._photo.jpg` and `.thumbnails` do."""
    return path.name.startswith(".")


def is_image_name(path: Path) -> bool:
    """Return whether a file is an image by its name."""
    return not is_hidden_name(path) and path.suffix.lower() in image_suffixes()


def format_counts(counts: dict[str, int]) -> str:
    """Return counts by suffix as text: `.txt (3), no suffix (1)`."""
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:MAX_SUFFIXES]]
    if len(counts) > MAX_SUFFIXES:
        shown.append("...")
    return ", ".join(shown)


def advise_on_suffixes(counts: dict[str, int]) -> str:
    """Return which extra reads some of the skipped files, or nothing if none does."""
    has_heif = bool(heif.SUFFIXES & counts.keys())
    return f" ({heif.HINT})" if has_heif and not heif.is_readable() else ""


def scan(folder: Path) -> list[Entry]:
    """Return the names in one folder, sorted.

    Raises:
      OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        return [_to_entry(entry) for entry in sorted(entries, key=lambda entry: entry.name)]


def _to_entry(entry: "os.DirEntry[str]") -> Entry:
    kind: Kind
    try:
        if entry.is_file():
            kind = "file"
        elif entry.is_dir():
            kind = "folder"
        else:
            entry.stat()
            kind = "special"
    except OSError:  # a broken link, a ring of links, or a link into a folder that may not be entered
        kind = "unreachable"
    return Entry(Path(entry.path), kind, entry.is_symlink())


class _Folder(NamedTuple):
    path: Path
    is_hidden: bool
    ancestors: frozenset[Identity]
    """The folders that contain this one, by its name and by its real path."""


def list_tree(folder: Path) -> Listing:
    """Return the contents of a folder and of the folders below it.

    Links are followed after all real folders, so that a folder that can be reached in two ways is
    listed once, under its real name if it has one in this tree. A link to a folder that contains it
    is not followed.
    """
    listing = Listing()
    folders = [_Folder(folder, False, _identities(_ancestors(folder)))]
    links: deque[_Folder] = deque()
    while folders or links:
        current = folders.pop() if folders else links.popleft()
        inside = _list_folder(current, listing)
        links.extend(each for each, is_link in inside if is_link)
        folders.extend(each for each, is_link in reversed(inside) if not is_link)
    return listing


def _list_folder(folder: _Folder, listing: Listing) -> list[tuple[_Folder, bool]]:
    """Add a folder's files to the listing; return the folders in it, and whether each is a link."""
    try:
        status = folder.path.stat()
        identity = status.st_dev, status.st_ino
        if identity in folder.ancestors:
            listing.repeated[folder.path] = "it leads back to a folder that holds it"
            return []
        if identity in listing.folders:
            first = to_printable(to_text(listing.folders[identity]))
            listing.repeated[folder.path] = f"it is the same folder as {first}, which is listed already"
            return []
        entries = scan(folder.path)
    except OSError as error:
        if not folder.is_hidden:
            listing.unreadable[folder.path] = error.strerror or str(error)
        return []
    listing.folders[identity] = folder.path
    inside = []
    for entry in entries:
        is_hidden = folder.is_hidden or is_hidden_name(entry.path)
        if entry.kind != "folder":
            listing.add_file(entry, is_hidden)
        elif not (is_hidden and entry.is_link):
            ancestors = folder.ancestors | {identity}
            if entry.is_link:
                ancestors |= _identities(_ancestors(entry.path))
            inside.append((_Folder(entry.path, is_hidden, ancestors), entry.is_link))
    return inside


def _ancestors(path: Path) -> set[Path]:
    """Return the folders that contain a path, by its name and by its real path."""
    return {*path.absolute().parents, *path.resolve().parents}


def _identities(folders: Iterable[Path]) -> frozenset[Identity]:
    identities = set()
    for folder in folders:
        with contextlib.suppress(OSError):  # folders above the working directory may be out of reach
            status = folder.stat()
            identities.add((status.st_dev, status.st_ino))
    return frozenset(identities)


def _suffix_of(path: Path) -> str:
    if is_image_name(path):
        return f"{path.suffix.lower()} that is no regular file"
    return to_printable(to_text(os.fsencode(path.suffix.lower()))) or "no suffix"
