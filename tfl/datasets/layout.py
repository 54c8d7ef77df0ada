"""The layout of a folder of images, `root/<split>/<class>/`: read, and refused where images have no class."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfl.datasets import files
from tfl.datasets.files import Found, Identity
from tfl.datasets.images import image_suffixes
from tfl.datasets.source import to_text
from tfl.errors import DatasetError
from tfl.text import to_printable

MOST_NAMED = 10

logger = logging.getLogger(__name__)


@dataclass
class Split:
    """The folder of one split."""

    path: Path
    straight: Found = field(default_factory=Found)
    """What lies in no class folder."""
    classes: dict[Path, Found] = field(default_factory=dict)
    """What lies in each class folder and below it; hidden ones are not among them."""

    @property
    def parts(self) -> list[Found]:
        return [self.straight, *self.classes.values()]


@dataclass
class Layout:
    """A folder's splits, in order of their names, and what lies beside them."""

    root: Path
    splits: list[Split]
    straight: Found

    def images(self, split: Split) -> list[Path]:
        """Return the images that lie in the class folders of a split."""
        return [path for found in split.classes.values() for path in found.images]


def read_layout(root: Path) -> Layout:
    """List every folder of `root` but the hidden ones, links followed.

    Raises:
      DatasetError: `root` cannot be listed.
    """
    straight, splits = Found(), []
    try:
        entries = files.scan(root)
    except OSError as error:
        raise DatasetError(f"cannot list the folder {root}: {error.strerror}") from error
    for entry in entries:
        is_hidden = files.is_hidden_name(entry.path)
        if entry.kind != "folder":
            straight.add_file(entry, is_hidden)
        elif not is_hidden:
            splits.append(_read_split(entry.path))
    return Layout(root, splits, straight)


def _read_split(path: Path) -> Split:
    split = Split(path)
    try:
        entries = files.scan(path)
    except OSError as error:
        split.straight.unreadable[path] = error.strerror or str(error)
        return split
    for entry in entries:
        is_hidden = files.is_hidden_name(entry.path)
        if entry.kind != "folder":
            split.straight.add_file(entry, is_hidden)
        elif is_hidden:
            inside = files.find_files(entry.path)
            split.straight.hidden += inside.images + inside.others + inside.hidden
        else:
            split.classes[entry.path] = files.find_files(entry.path)
    return split


def require_classes(layout: Layout, used: Sequence[str]) -> None:
    """Refuse a folder in which images or classes of the splits in use would be left out.

    Raises:
      DatasetError: a folder cannot be listed, images lie in no class folder, a class folder has no image, or one folder
        is part of two classes.
    """
    splits = [split for split in layout.splits if to_text(Path(split.path.name)) in used]
    _refuse_unreadable(layout.root, splits)
    _refuse_straight(layout.root, [split.straight for split in splits])
    _refuse_empty(layout.root, splits)
    if any(layout.images(split) for split in splits):  # else the root is no such layout, which is said later
        _refuse_straight(layout.root, [layout.straight])
    _refuse_shared(layout.root, splits)


def say_passed_over(layout: Layout) -> None:
    """Warn of files that are no images by their names, of images in no class folder, and of folders listed once."""
    parts = [part for split in layout.splits for part in split.parts]
    together = Found(
        hidden=[path for part in parts for path in part.hidden], others=[path for part in parts for path in part.others]
    )
    if counts := together.passed_over():
        example = to_printable(to_text((together.others + together.hidden)[0]))
        logger.warning(
            "passed over %d files, hidden or no images by their names: %s, such as %s%s",
            sum(counts.values()),
            files.counted(counts),
            example,
            files.how_to_read(counts),
        )
    for part in parts:
        files.say_repeated(part)
        for path, reason in part.unreadable.items():
            logger.warning("passed over %s: %s", to_printable(to_text(path)), reason)
    for split in layout.splits:
        if split.straight.images:
            logger.warning(
                "passed over %d images in %s, which lie in no class folder",
                len(split.straight.images),
                to_printable(to_text(split.path)),
            )


def describe_straight(layout: Layout) -> str:
    """Return a hint for a folder whose images lie where no class folder is, or nothing."""
    names = [split.path.name for split in layout.splits if split.straight.images]
    if not names:
        return ""
    count = sum(len(split.straight.images) for split in layout.splits)
    return f"; {count} images lie straight in {_names(names)}, one level too high"


def _refuse_unreadable(root: Path, splits: Iterable[Split]) -> None:
    unreadable = {path: why for split in splits for part in split.parts for path, why in part.unreadable.items()}
    if unreadable:
        lines = [f"{_short(root, path)}: {reason}" for path, reason in unreadable.items()]
        raise DatasetError(*_block(f"{root} has folders or links that cannot be read", lines), "repair or remove them")


def _refuse_straight(root: Path, parts: Iterable[Found]) -> None:
    paths = [path for part in parts for path in part.images]
    if paths:
        lines = [_short(root, path) for path in paths]
        raise DatasetError(
            *_block(f"{root} has images in no class folder, {len(paths)} in all", lines),
            "expected root/<split>/<class>/: move them into the folders of their classes, or out of the dataset",
        )


def _refuse_empty(root: Path, splits: Iterable[Split]) -> None:
    empty = {path: found for split in splits for path, found in split.classes.items() if not found.images}
    if empty:
        counts: Counter[str] = Counter()
        for found in empty.values():
            counts.update(found.passed_over())
        lines = [f"{_short(root, path)}: {_contents(found)}" for path, found in empty.items()]
        suffixes = " ".join(sorted(image_suffixes()))
        raise DatasetError(
            *_block(f"{root} has class folders without an image", lines),
            f"expected files ending in {suffixes}{files.how_to_read(counts)}; add images, or remove the folders",
        )


def _contents(found: Found) -> str:
    counts = found.passed_over()
    if counts:
        return f"{sum(counts.values())} files, {files.counted(counts)}"
    return next(iter(found.repeated.values()), "it is empty")


def _refuse_shared(root: Path, splits: Iterable[Split]) -> None:
    """One folder under two classes would give each of its images two labels."""
    owners: dict[Identity, Path] = {}
    for class_folder, identity, path in _class_folders(splits):
        other = owners.setdefault(identity, path)
        class_of_other = other.relative_to(root).parts[1]
        if class_of_other != class_folder.name:
            raise DatasetError(
                f"{_short(root, other)} and {_short(root, path)} are the same folder of {root}, in two classes: its "
                "images would have both labels; remove one of the links"
            )


def _class_folders(splits: Iterable[Split]) -> Iterator[tuple[Path, Identity, Path]]:
    for split in splits:
        for class_folder, found in split.classes.items():
            for identity, path in found.folders.items():
                yield class_folder, identity, path


def _block(title: str, lines: list[str]) -> list[str]:
    """Return the lines of a message: a title, and below it what it is about, or the first of it."""
    more = [f"... and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return [f"{title}:", *(f"  {line}" for line in [*lines[:MOST_NAMED], *more])]


def _short(root: Path, path: Path) -> str:
    return to_printable(to_text(path.relative_to(root)))


def _names(names: list[str]) -> str:
    shown = [to_printable(to_text(Path(name))) + "/" for name in names[:MOST_NAMED]]
    return ", ".join(shown + ["..."] * (len(names) > MOST_NAMED))
