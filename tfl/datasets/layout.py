"""The contents of a folder of images, `root/<split>/<class>/` or `root/<class>/`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfl.datasets import walk
from tfl.datasets.division import ALL
from tfl.datasets.layout_choice import glance, has_splits
from tfl.datasets.source import to_text
from tfl.datasets.walk import Listing
from tfl.errors import DatasetError
from tfl.text import join_first, to_printable

logger = logging.getLogger(__name__)


@dataclass
class SplitFolder:
    """The folder of one split; the root itself where the folders in it are classes."""

    path: Path
    name: str
    loose: Listing = field(default_factory=Listing)
    """What is in no class folder."""
    classes: dict[Path, Listing] = field(default_factory=dict)
    """The contents of each class folder; hidden ones are left out."""

    @property
    def listings(self) -> list[Listing]:
        """All contents of the split."""
        return [self.loose, *self.classes.values()]

    @property
    def images(self) -> list[Path]:
        """The images in the class folders."""
        return [path for listing in self.classes.values() for path in listing.images]


@dataclass
class Layout:
    """A folder's splits, sorted by name, and the files beside them."""

    root: Path
    splits: list[SplitFolder]
    """A folder of classes has a single one, `all`."""
    loose: Listing
    class_level: int = 1
    """Which part of an image's relative path is its class: 1, or 0 in a folder of classes."""

    @property
    def has_splits(self) -> bool:
        """Whether the folders in the root are splits; else they are classes."""
        return self.class_level == 1


def read_layout(root: Path, used: Sequence[str]) -> Layout:
    """List every folder of `root` that is not hidden; links are followed.

    Args:
      used: the names of the splits in use.

    Raises:
      DatasetError: `root` cannot be listed; or see `has_splits`.
    """
    try:
        entries = walk.scan(root)
    except OSError as error:
        raise DatasetError(f"cannot list the folder {root}: {error.strerror}") from error
    if not has_splits(root, glance(entries), used):
        return Layout(root, [_read_split(root, ALL)], Listing(), class_level=0)
    loose, splits = Listing(), []
    for entry in entries:
        is_hidden = walk.is_hidden_name(entry.path)
        if entry.kind != "folder":
            loose.add_file(entry, is_hidden)
        elif not is_hidden:
            splits.append(_read_split(entry.path, to_text(Path(entry.path.name))))
    return Layout(root, splits, loose)


def _read_split(path: Path, name: str) -> SplitFolder:
    split = SplitFolder(path, name)
    try:
        entries = walk.scan(path)
    except OSError as error:
        split.loose.unreadable[path] = error.strerror or str(error)
        return split
    for entry in entries:
        is_hidden = walk.is_hidden_name(entry.path)
        if entry.kind != "folder":
            split.loose.add_file(entry, is_hidden)
        elif is_hidden:
            inside = walk.list_tree(entry.path)
            split.loose.hidden += inside.images + inside.others + inside.hidden
        else:
            split.classes[entry.path] = walk.list_tree(entry.path)
    return split


def warn_skipped(layout: Layout) -> None:
    """Warn of files that are not images by their names, images in no class folder, and folders listed once."""
    listings = [listing for split in layout.splits for listing in split.listings]
    skipped = Listing()
    for listing in listings:
        skipped.hidden += listing.hidden
        skipped.others += listing.others
    if counts := skipped.count_skipped():
        logger.warning(
            "skipped %d files, hidden or no images by their names: %s, such as %s%s",
            sum(counts.values()),
            walk.format_counts(counts),
            to_printable(to_text((skipped.others + skipped.hidden)[0])),
            walk.advise_on_suffixes(counts),
        )
    for listing in listings:
        listing.warn_repeated()
        listing.warn_unreadable()
    for split in layout.splits:
        if split.loose.images:
            logger.warning(
                "skipped %d images in %s, which are in no class folder",
                len(split.loose.images),
                to_printable(to_text(split.path)),
            )


def describe_loose(layout: Layout) -> str:
    """Return a hint for a folder whose images are in no class folder, or nothing."""
    if layout.loose.images:
        return f"; {len(layout.loose.images)} images are directly in it, in no class folder"
    splits = [split for split in layout.splits if split.loose.images]
    if not splits:
        return ""
    count = sum(len(split.loose.images) for split in splits)
    folders = join_first([to_printable(split.name) + "/" for split in splits])
    return f"; {count} images are directly in {folders}, one level too high"
