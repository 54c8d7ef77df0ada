"""Labels in memory: whole numbers, names or one-hot rows, as numbers of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfl.datasets.label_values import to_label_array, undo_one_hot
from tfl.datasets.npz_values import MAX_LABEL, list_values
from tfl.datasets.source import to_text
from tfl.datasets.spelling import find_spellings
from tfl.errors import DatasetError


def convert_labels(labels: Any, class_names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the class of each image and the names of the classes.

    Args:
      labels: whole numbers, also as floats, or booleans `(n,)` or `(n, 1)`, names `(n,)`, or one-hot rows `(n, c)`.
      class_names: names of the classes, in the order of their numbers; for labels that are names, a
        choice of order. Without it, names are sorted, and the numbers that occur are the classes.

    Returns:
      Labels, int64 `(n,)`, 0 to the number of classes less 1; and the classes' names.

    Raises:
      DatasetError: a label is missing, is none of the classes, or an image has several.
    """
    names = _check_names(class_names)
    values = to_label_array(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        num_classes = values.shape[1]
        names = names or tuple(map(str, range(num_classes)))
        if len(names) != num_classes:
            raise DatasetError(f"labels have {num_classes} columns, and class_names are {list_values(names)}")
        values = undo_one_hot(values)
    if values.ndim != 1:
        raise DatasetError(f"labels are {values.dtype} {values.shape}; expected one of each image: (n,), or one-hot")
    if values.dtype.kind == "U":
        return _number_names(values, names)
    return _number_integers(values, names)


def join_labels(parts: Sequence[Any]) -> tuple[np.ndarray, list[int]]:
    """Return the labels of several splits as one array, and how many each split has.

    Raises:
      DatasetError: they are of several kinds.
    """
    arrays = [to_label_array(part) for part in parts]
    arrays = [array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for array in arrays]
    kinds = {("names" if array.dtype.kind == "U" else "numbers", array.shape[1:]) for array in arrays}
    if len(kinds) > 1:
        shown = " and ".join(f"{kind} {('n', *shape)}".replace("'", "") for kind, shape in sorted(kinds))
        raise DatasetError(f"labels of one split are others than those of another: {shown}; expected one form for all")
    return np.concatenate(arrays), [len(array) for array in arrays]


def _check_names(class_names: Sequence[str] | None) -> tuple[str, ...] | None:
    if class_names is None:
        return None
    if isinstance(class_names, str):
        raise DatasetError(f"class_names is {class_names!r}; expected one text for each class: ['cat', 'dog']")
    names = tuple(to_text(name) for name in class_names)
    if len(set(names)) < len(names):
        raise DatasetError(f"class_names has a name twice: {list_values(names)}")
    return names


def _number_names(values: np.ndarray, names: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the position of each name among the classes, and the classes.

    Raises:
      DatasetError: a name is empty, is written with other white space elsewhere, or is no class.
    """
    found, inverse = np.unique(values, return_inverse=True)
    texts = [to_text(value) for value in found.tolist()]
    _require_one_spelling(texts)
    names = names or tuple(texts)
    unknown = [text for text in texts if text not in names]
    if unknown:
        raise DatasetError(f"labels hold {list_values(map(repr, unknown))}; class_names are {list_values(names)}")
    positions = np.asarray([names.index(text) for text in texts], np.int64)
    return positions[inverse.reshape(-1)] if texts else np.zeros(0, np.int64), names


def _require_one_spelling(texts: list[str]) -> None:
    for text in texts:
        if not text.strip():
            raise DatasetError(f"labels hold {text!r}, which is no name; leave these images out, or label them")
    for text, other in find_spellings(texts):
        raise DatasetError(f"labels hold {other!r} and {text!r}, which differ in white space alone")


def _number_integers(values: np.ndarray, names: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the position of each number among the classes, and the classes' names.

    Raises:
      DatasetError: a number is negative, or has no name.
    """
    found, inverse = np.unique(values, return_inverse=True)
    if len(found) and not 0 <= int(found[0]) <= int(found[-1]) <= MAX_LABEL:
        raise DatasetError(
            f"labels range from {found[0]} to {found[-1]}; expected 0 or more (leave images without a label out)"
        )
    if names is None:
        return np.asarray(inverse.reshape(-1), np.int64), tuple(map(str, found.tolist()))
    if len(found) and int(found[-1]) >= len(names):
        raise DatasetError(
            f"labels range from {found[0]} to {found[-1]}; expected 0 to {len(names) - 1}, the classes being "
            f"{list_values(names)}"
        )
    return values.astype(np.int64), names
