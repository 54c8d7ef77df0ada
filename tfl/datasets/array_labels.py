"""Labels in memory: whole numbers, names or one-hot rows, as numbers of classes."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from tfl.datasets.npz_values import MAX_LABEL, list_values
from tfl.datasets.source import to_text
from tfl.errors import DatasetError

MAX_SHOWN = 3  # rows in one message


def convert_labels(labels: Any, class_names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the class of each image and the names of the classes.

    Args:
      labels: whole numbers or booleans `(n,)` or `(n, 1)`, names `(n,)`, or one-hot rows `(n, c)`.
      class_names: names of the classes, in the order of their numbers; for labels that are names, a
        choice of order. Without it, names are sorted, and the numbers that occur are the classes.

    Returns:
      Labels, int64 `(n,)`, 0 to the number of classes less 1; and the classes' names.

    Raises:
      DatasetError: a label is missing, is none of the classes, or an image has several.
    """
    names = _check_names(class_names)
    values = _to_array(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        num_classes = values.shape[1]
        names = names or tuple(map(str, range(num_classes)))
        if len(names) != num_classes:
            raise DatasetError(f"labels have {num_classes} columns, and class_names are {list_values(names)}")
        values = _undo_one_hot(values)
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
    arrays = [_to_array(part) for part in parts]
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


def _to_array(labels: Any) -> np.ndarray:
    """Return labels as an array of numbers, booleans or text.

    Raises:
      DatasetError: a label is missing, or they are of several kinds.
    """
    if hasattr(labels, "detach"):  # PyTorch
        labels = labels.detach().cpu()
    if isinstance(labels, list | tuple) and not any(map(_has_axes, labels)):
        return _from_objects(np.asarray(labels, object))  # else numpy makes the text "nan" of NaN among names
    try:
        values = np.asarray(labels)
    except ValueError as error:  # lists of several lengths
        raise DatasetError(
            "labels are lists of several lengths; expected one class of each image (multi-label is not supported)"
        ) from error
    if values.dtype.kind == "S":
        return np.asarray([to_text(value) for value in values.reshape(-1).tolist()]).reshape(values.shape)
    if values.dtype.kind in "biuU":
        return values
    return _from_objects(values) if values.dtype.kind in "OT" else _from_floats(values)


def _from_objects(values: np.ndarray) -> np.ndarray:
    """Return Python objects, such as a column of pandas, as text or whole numbers."""
    items = values.reshape(-1).tolist()
    missing = [row for row, item in enumerate(items) if _is_missing(item)]
    if missing:
        raise DatasetError(f"{_rows(missing)} without a label; leave these images out, or label them")
    if all(isinstance(item, str | bytes) for item in items):
        return np.asarray([to_text(item) for item in items], np.str_).reshape(values.shape)
    if all(isinstance(item, Integral) for item in items):
        return np.asarray(items).reshape(values.shape)
    kinds = sorted({type(item).__name__ for item in items})
    raise DatasetError(f"labels are of the types {', '.join(kinds)}; expected whole numbers, or names")


def _has_axes(label: Any) -> bool:
    """Return whether a label is a row of a table, such as one-hot."""
    return isinstance(label, list | tuple) or getattr(label, "ndim", 0) > 0


def _is_missing(item: Any) -> bool:
    """Return whether a label is None, NaN or pandas' NA."""
    try:
        return item is None or bool(item != item)  # noqa: PLR0124 -- NaN is not itself
    except (TypeError, ValueError):  # NA is neither true nor false
        return True


def _from_floats(values: np.ndarray) -> np.ndarray:
    """Return one-hot rows of floats as they are; refuse other labels that are no whole numbers."""
    if values.dtype.kind == "f" and values.ndim == 2 and values.shape[1] > 1:
        return values
    advice = "; whole numbers become labels by `labels.astype('int64')`" if values.dtype.kind == "f" else ""
    raise DatasetError(f"labels are {values.dtype} {values.shape}; expected whole numbers, names or one-hot{advice}")


def _undo_one_hot(values: np.ndarray) -> np.ndarray:
    """Return the class of each row `(n, c)`.

    Raises:
      DatasetError: a row has not one 1 and else 0.
    """
    if values.dtype.kind not in "biuf":
        raise DatasetError(f"labels are {values.dtype} {values.shape}; expected one name of each image: (n,)")
    is_one = values == 1
    wrong = np.flatnonzero((is_one.sum(axis=1) != 1) | ~(is_one | (values == 0)).all(axis=1))
    if len(wrong):
        shown = list_values(values[wrong[0]].tolist())
        raise DatasetError(
            f"labels of {values.shape[1]} columns are not one-hot: row {wrong[0]} is {shown}; expected one 1 and else "
            "0. Several classes of one image (multi-label) are not supported; shares become labels by "
            "`labels.argmax(axis=1)`"
        )
    return np.asarray(is_one.argmax(axis=1), np.int64)


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
    spelt: dict[str, str] = {}
    for text in texts:
        plain = " ".join(text.split())
        if not plain:
            raise DatasetError(f"labels hold {text!r}, which is no name; leave these images out, or label them")
        if plain in spelt:
            raise DatasetError(f"labels hold {spelt[plain]!r} and {text!r}, which differ in white space alone")
        spelt[plain] = text


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


def _rows(rows: list[int]) -> str:
    """Return rows in words: `rows 3, 5, 8 and 2 more`."""
    shown = ", ".join(map(str, rows[:MAX_SHOWN]))
    num_others = len(rows) - MAX_SHOWN
    more = f" and {num_others} more" if num_others > 0 else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more} of the labels {'are' if len(rows) > 1 else 'is'}"
