"""Images given in Python, written once to a file beside the caches: later commands open it as any other dataset."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from tfl.datasets.data_objects import find_kind
from tfl.datasets.division import ALL
from tfl.datasets.image_store import ImageStore, Part
from tfl.datasets.source import to_text
from tfl.errors import DatasetError, SpecError
from tfl.files.paths import require_no_file
from tfl.specs import DatasetSpec


class GivenImages(TypedDict, total=False):
    """Images and labels in Python; see `tfl.precompute`."""

    images: Any
    """An array, a list of arrays, of Pillow images or of paths; or a data-set object, which has the labels too."""
    labels: Any
    ids: Sequence[str]
    """A text for each image, by which it is divided and found again; else its path, or its position."""
    val: Any
    """Images to choose settings on: (images, labels), (images, labels, ids), or a data-set object."""
    test: Any
    class_names: Sequence[str]
    name: str
    """Of the dataset, in the names of files and in tables."""


def store_images(given: GivenImages, dataset: DatasetSpec, folder: Path) -> DatasetSpec:
    """Write images to `folder`, and return the spec that opens them.

    Arrays become `<name>-<12 hex digits of the digest>.npz`, paths a table of the same name. The
    same images give the same file.

    Args:
      dataset: how to divide them, and which slices of the parts to use.

    Raises:
      TypeError: an argument has another name than those of `GivenImages`.
      SpecError: `dataset` names another dataset.
      DatasetError: images or labels are not as expected, or their numbers differ.
    """
    unknown = sorted(given.keys() - GivenImages.__annotations__.keys())
    if unknown:  # what `**given` lets through
        expected = ", ".join(GivenImages.__annotations__)
        raise TypeError(f"unexpected keyword arguments {', '.join(unknown)}; images are given as {expected}")
    if dataset.dataset != DatasetSpec.dataset:
        raise SpecError(f"images were given, and the dataset {dataset.dataset!r} too; give one of them")
    parts = _list_parts(given)
    require_no_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    store = ImageStore(folder, given.get("name", "images"), given.get("class_names"))
    are_paths = {_are_paths(part.images) for part in parts.values()}
    if len(are_paths) > 1:
        raise DatasetError("some parts are paths and others arrays; expected one of them for all")
    word = store.write_table(parts) if are_paths.pop() else store.write_arrays(parts)
    return replace(_choose_splits(dataset, parts), dataset=word)


def _list_parts(given: GivenImages) -> dict[str, Part]:
    """Return the images of each split; those of `all` if only one set was given.

    Raises:
      DatasetError: labels are missing, or are given twice.
    """
    whole = (given.get("images"), given.get("labels"), given.get("ids"))
    parts = {"train": _to_part("images", whole)}
    for split in ("val", "test"):
        if given.get(split) is not None:
            parts[split] = _to_part(split, given.get(split))
    return parts if len(parts) > 1 else {ALL: parts["train"]}


def _to_part(name: str, found: Any) -> Part:
    if find_kind(found) is not None:
        found = (found, None)
    if not isinstance(found, tuple | list) or len(found) not in (2, 3):
        raise DatasetError(f"{name} is of type {type(found).__name__}; expected a pair (images, labels)")
    images, labels, ids = (*found, None)[:3]
    if images is None:
        raise DatasetError(f"{name} holds no images; expected a pair (images, labels)")
    kind = find_kind(images)
    if (kind is None) == (labels is None):
        received = "no labels were given" if kind is None else f"labels were given, and {kind.noun} has its own"
        raise DatasetError(f"{name}: {received}; expected (images, labels), or a data set of such pairs alone")
    if ids is not None and kind is not None:
        raise DatasetError(f"{name}: ids were given with {kind.noun}, which is read once, in its order; give no ids")
    return Part(images, labels, None if ids is None else [to_text(id_) for id_ in ids])


def _choose_splits(dataset: DatasetSpec, parts: dict[str, Part]) -> DatasetSpec:
    """Return the spec with the splits that were given, where the user chose no slices of them."""
    if ALL in parts:
        return dataset
    if "val" in parts and not dataset.val_split:
        dataset = replace(dataset, val_split="val")
    if "test" not in parts and dataset.test_split == DatasetSpec.test_split:
        dataset = replace(dataset, test_split="")
    return dataset


def _are_paths(images: Any) -> bool:
    if hasattr(images, "to_numpy"):  # a column of pandas
        images = images.to_numpy()
    is_list = isinstance(images, list | tuple | np.ndarray) and len(images) > 0
    return is_list and all(isinstance(image, str | os.PathLike) for image in images)
