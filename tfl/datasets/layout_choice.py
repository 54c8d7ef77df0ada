"""The choice between the two layouts of a folder: `root/<split>/<class>/` and `root/<class>/`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfl.datasets import walk
from tfl.datasets.division import ALL
from tfl.datasets.source import to_text
from tfl.datasets.walk import Entry
from tfl.errors import DatasetError
from tfl.specs import ROLES, Role
from tfl.text import join_first, to_printable

SPLIT_NAMES: dict[Role, frozenset[str]] = {
    "train": frozenset({"train", "training"}),
    "val": frozenset({"val", "valid", "validation", "dev"}),
    "test": frozenset({"test", "testing", "eval", "evaluation"}),
}
"""What people call the folders of splits, in lower case."""
LAYOUTS = "root/<split>/<class>/ or root/<class>/"
IN_WORDS = (
    "  root/<split>/<class>/*.jpg  a folder of each split, with a folder of each class in it",
    "  root/<class>/*.jpg          a folder of each class; tfl divides its images into train, val and test",
)
AS_CLASSES = f"--train-split '{ALL}[20%:]' --test-split '{ALL}[:20%]'"


class TopFolder(NamedTuple):
    """A folder in the root, and what is directly in it."""

    name: str
    has_images: bool
    folders: frozenset[str]
    """The names of the folders in it; hidden ones are left out."""

    @property
    def is_named_as_split(self) -> bool:
        """Whether the folder may be a split by its name."""
        return self.name == ALL or _is_split_name(self.name)

    @property
    def can_be_class(self) -> bool:
        """Whether the folder may be a class, whatever its name: there are `valid` and `invalid` photos."""
        return self.has_images and not self.folders and self.name != ALL


def _is_split_name(name: str) -> bool:
    return any(name.casefold() in names for names in SPLIT_NAMES.values())


def glance(entries: Sequence[Entry]) -> list[TopFolder]:
    """Look into each folder that is not hidden; one that cannot be listed seems empty."""
    return [
        _glance_into(entry.path) for entry in entries if entry.kind == "folder" and not walk.is_hidden_name(entry.path)
    ]


def _glance_into(path: Path) -> TopFolder:
    try:
        entries = [entry for entry in walk.scan(path) if not walk.is_hidden_name(entry.path)]
    except OSError:
        entries = []
    folders = frozenset(entry.path.name for entry in entries if entry.kind == "folder")
    has_images = any(walk.is_image_name(entry.path) for entry in entries if entry.kind in ("file", "unreachable"))
    return TopFolder(to_text(Path(path.name)), has_images, folders)


def has_splits(root: Path, folders: Sequence[TopFolder], used: Sequence[str]) -> bool:
    """Return whether the folders in `root` are splits; else they are classes.

    A typed spec and its resolved one, in which all splits of a folder of classes are parts of `all`,
    have the same answer, or the typed one is refused.

    Args:
      used: the names of the splits in use.

    Raises:
      DatasetError: some folders are splits and some are classes, or they could be either.
    """
    splits = [folder for folder in folders if folder.is_named_as_split or (folder.name in used and folder.folders)]
    classes = [folder for folder in folders if folder.has_images and folder not in splits]
    are_parts = list(used) == [ALL]  # typed, or resolved from a folder of classes
    if not splits:
        if not are_parts:
            _refuse_ambiguous(root, folders)
        return not folders
    if classes and not (are_parts and all(folder.can_be_class for folder in splits)):
        raise _mixed_error(root, splits, classes)
    return not classes


def _mixed_error(root: Path, splits: Sequence[TopFolder], classes: Sequence[TopFolder]) -> DatasetError:
    can_be_classes = all(folder.can_be_class for folder in splits)
    advice = f"; or, if all of them are classes, say so: {AS_CLASSES}" if can_be_classes else ""
    return DatasetError(
        f"{root} mixes two layouts: {_list_names(splits)} would be splits, and {_list_names(classes)} would be "
        "classes, with images directly in them; expected one of",
        *IN_WORDS,
        f"move or rename one kind (no class of the second layout is called {ALL}){advice}",
    )


def _refuse_ambiguous(root: Path, folders: Sequence[TopFolder]) -> None:
    """Refuse folders without images that all hold folders of the same names: two layouts, or neither.

    Raises:
      DatasetError: they do; or there is one folder only, which holds others.
    """
    if not folders or any(folder.has_images for folder in folders):
        return
    common = sorted(frozenset.intersection(*(folder.folders for folder in folders)))
    inside = join_first([to_printable(to_text(Path(name))) for name in common])
    if len(folders) == 1 and common:
        place = root / folders[0].name
        raise DatasetError(
            f"{root} holds a single folder, {_list_names(folders)}, which holds {inside}; expected one of",
            *IN_WORDS,
            f"if that folder is one of these, give it: {to_printable(str(place))}",
        )
    if any(map(_is_split_name, common)):
        raise DatasetError(
            f"the folders {_list_names(folders)} of {root} all hold {inside}: splits below classes; expected one of",
            *IN_WORDS,
            f"move the splits above the classes, or let tfl divide all images anew: {AS_CLASSES}",
        )
    if len(common) >= 2:
        first, second = folders[0].name, folders[-1].name
        raise DatasetError(
            f"the folders {_list_names(folders)} of {root} all hold folders of the same names: {inside}. Say whether",
            f"  they are splits of classes {inside}: for instance --train-split {to_printable(first)} "
            f"--test-split {to_printable(second)}",
            f"  or classes: {AS_CLASSES}",
        )


def _list_names(folders: Sequence[TopFolder]) -> str:
    return join_first([to_printable(folder.name) for folder in folders])


def advise_on_flags(names: Sequence[str]) -> str:
    """Return flags for the splits that a folder has, or nothing if their names say nothing."""
    found = {role: [name for name in names if name.casefold() in SPLIT_NAMES[role]] for role in ROLES}
    if not found["train"]:
        return ""
    train = found["train"][0]
    flags = "" if train == "train" else f"--train-split {train} "
    if found["test"]:
        val = f"--val-split {found['val'][0]} " if found["val"] else ""
        return f"; give {flags}{val}--test-split {found['test'][0]}"
    if found["val"]:
        val = found["val"][0]
        return (
            f"; give {flags}--test-split {val} to measure on {val}, or {flags}--val-split {val} --test-split '' to "
            "choose settings on it"
        )
    return f"; for instance --train-split '{train}[20%:]' --test-split '{train}[:20%]'"
