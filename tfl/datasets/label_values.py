"""Labels of any kind in memory, as an array of numbers, booleans or text."""

from numbers import Integral, Real
from typing import Any

import numpy as np

from tfl.datasets.npz_values import list_values
from tfl.datasets.source import to_text
from tfl.errors import DatasetError

MAX_FLOAT = 2.0**53  # beyond it, floats skip whole numbers
MAX_SHOWN = 3  # rows in one message


def to_label_array(labels: Any) -> np.ndarray:
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
        raise _missing_error(missing)
    if all(isinstance(item, str | bytes) for item in items):
        return np.asarray([to_text(item) for item in items], np.str_).reshape(values.shape)
    if all(isinstance(item, Integral) for item in items):
        return np.asarray(items).reshape(values.shape)
    if all(isinstance(item, Real) for item in items):
        return _from_floats(np.asarray(items, np.float64).reshape(values.shape))
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
    """Return floats that are whole numbers, as Keras' binary labels are, as int64; one-hot rows as they are.

    Raises:
      DatasetError: there are others, or they are no numbers.
    """
    if values.dtype.kind != "f":
        raise DatasetError(f"labels are {values.dtype} {values.shape}; expected whole numbers, names or one-hot")
    if values.ndim == 2 and values.shape[1] > 1:
        return values
    missing = np.flatnonzero(np.isnan(values.reshape(-1)))
    if len(missing):
        raise _missing_error(missing.tolist())
    broken = values[values != np.rint(values)]
    if broken.size or not (np.abs(values) < MAX_FLOAT).all():
        shown = broken.flat[0] if broken.size else values.max()
        raise DatasetError(f"labels are {values.dtype} {values.shape} and hold {shown:g}; expected whole numbers")
    return values.astype(np.int64)


def undo_one_hot(values: np.ndarray) -> np.ndarray:
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


def _missing_error(rows: list[int]) -> DatasetError:
    shown = ", ".join(map(str, rows[:MAX_SHOWN]))
    num_others = len(rows) - MAX_SHOWN
    more = f" and {num_others} more" if num_others > 0 else ""
    subject = f"rows {shown}{more} of the labels are" if len(rows) > 1 else f"row {shown} of the labels is"
    return DatasetError(f"{subject} without a label; leave these images out, or label them")
