"""Refusals of a folder whose layout would lose images or classes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tfl.datasets import walk
from tfl.datasets.images import image_suffixes
from tfl.datasets.layout import Layout, SplitFolder
from tfl.datasets.layout_choice import LAYOUTS, advise_on_flags
from tfl.datasets.source import to_text
from tfl.datasets.walk import Identity, Listing
from tfl.errors import DatasetError
from tfl.text import first_lines, to_printable


def require_splits(root: Path, classes: Mapping[str, Sequence[str]], used: Sequence[str], hint: str) -> None:
    """Refuse a folder without images in a split in use, or with classes that the first split lacks.

    Args:
      classes: the class of each image, by split.
      used: the names of the splits in use, the training split first.
      hint: the end of the message about missing images.

    Raises:
      DatasetError: the split, and what is there instead.
    """
    found = [split for split, of_split in classes.items() if of_split]
    if not found:
        raise DatasetError(
            f"{root} holds no images: expected {LAYOUTS} with files ending in "
            f"{' '.join(sorted(image_suffixes()))}{hint}"
        )
    missing = [split for split in used if split not in found]
    if missing:
        raise DatasetError(
            f"{root} has no images in the split(s) {', '.join(missing)}; it has {', '.join(found)} "
            f"(an empty string leaves a role out: --test-split ''){advise_on_flags(found)}{hint}"
        )
    known = set(classes[used[0]])
    for split in used:
        extra = sorted(set(classes[split]) - known)
        if extra:
            raise DatasetError(
                f"split {split!r} of {root} has classes that {used[0]!r} lacks: "
                f"{', '.join(extra)}; expected among {', '.join(sorted(known))}"
            )


def require_classes(layout: Layout, used: Sequence[str]) -> None:
    """Refuse a folder if images or classes of the splits in use would be left out.

    Raises:
      DatasetError: a folder cannot be listed, an image is in no class folder, a class folder has no
        image, or one folder belongs to two classes.
    """
    splits = [split for split in layout.splits if split.name in used]
    _refuse_unreadable(layout.root, splits)
    _refuse_loose(layout.root, [split.loose for split in splits])
    _refuse_empty(layout.root, splits)
    if any(split.images for split in splits):  # else the root has another layout, which is reported later
        _refuse_loose(layout.root, [layout.loose])
    _refuse_shared(layout, splits)


def _refuse_unreadable(root: Path, splits: Iterable[SplitFolder]) -> None:
    lines = []
    for split in splits:
        for listing in split.listings:
            lines += [f"{_shorten(root, path)}: {reason}" for path, reason in listing.unreadable.items()]
    if lines:
        title = f"{root} has folders or links that cannot be read:"
        raise DatasetError(title, *first_lines(lines), "repair or remove them")


def _refuse_loose(root: Path, listings: Iterable[Listing]) -> None:
    paths = [path for listing in listings for path in listing.images]
    if paths:
        raise DatasetError(
            f"{root} has images in no class folder, {len(paths)} in all:",
            *first_lines([_shorten(root, path) for path in paths]),
            f"expected {LAYOUTS}: move them into the folders of their classes, or out of the dataset",
        )


def _refuse_empty(root: Path, splits: Iterable[SplitFolder]) -> None:
    counts: Counter[str] = Counter()
    lines = []
    for split in splits:
        for path, listing in split.classes.items():
            if not listing.images:
                counts.update(listing.count_skipped())
                lines.append(f"{_shorten(root, path)}: {_describe(listing)}")
    if lines:
        suffixes = " ".join(sorted(image_suffixes()))
        raise DatasetError(
            f"{root} has class folders without an image:",
            *first_lines(lines),
            f"expected files ending in {suffixes}{walk.advise_on_suffixes(counts)}; add images, or remove the folders",
        )


def _describe(listing: Listing) -> str:
    """Return what a folder without images contains."""
    counts = listing.count_skipped()
    if counts:
        return f"{sum(counts.values())} files, {walk.format_counts(counts)}"
    return next(iter(listing.repeated.values()), "it is empty")


def _refuse_shared(layout: Layout, splits: Iterable[SplitFolder]) -> None:
    """Refuse a folder that belongs to two classes: each of its images would have two labels."""
    root = layout.root
    owners: dict[Identity, Path] = {}
    for class_folder, identity, path in _list_class_folders(splits):
        other = owners.setdefault(identity, path)
        class_of_other = other.relative_to(root).parts[layout.class_level]
        if class_of_other != class_folder.name:
            raise DatasetError(
                f"{_shorten(root, other)} and {_shorten(root, path)} are the same folder of {root}, in two classes: "
                "its images would have both labels; remove one of the links"
            )


def _list_class_folders(splits: Iterable[SplitFolder]) -> Iterator[tuple[Path, Identity, Path]]:
    """Yield each class folder with the identity and path of every folder in it."""
    for split in splits:
        for class_folder, listing in split.classes.items():
            for identity, path in listing.folders.items():
                yield class_folder, identity, path


def _shorten(root: Path, path: Path) -> str:
    return to_printable(to_text(path.relative_to(root)))
