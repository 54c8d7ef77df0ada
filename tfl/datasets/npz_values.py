"""Labels, class names and ids of an .npz file, checked and converted."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tfl.datasets.source import to_text
from tfl.errors import DatasetError
from tfl.text import join_first, to_printable

NAME_KINDS = "SUiufb"  # numpy's dtypes that can be class names: text, numbers and booleans
MAX_LABEL = np.iinfo(np.int64).max


def read_labels(path: Path, split: str, labels: Any) -> np.ndarray:
    """Return the labels as they are in the file, int64 `(n,)`.

    Raises:
      DatasetError: one is negative, or too large for int64.
    """
    if not labels.size:
        return np.zeros(0, np.int64)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MAX_LABEL:
        raise DatasetError(
            f"{to_printable(split)}_labels of {path} range from {low} to {high}; expected 0 or more "
            "(leave images without a label out of the file)"
        )
    return np.asarray(labels.reshape(-1).astype(np.int64))


def read_class_names(path: Path, names: Any) -> list[str]:
    """Return the class names.

    Raises:
      DatasetError: they are not names, or there are none.
    """
    is_number = names.dtype.kind == "f"
    flaw = " with values that are not finite" if is_number and not np.isfinite(names).all() else ""
    if names.ndim != 1 or not len(names) or names.dtype.kind not in NAME_KINDS or flaw:
        raise DatasetError(
            f"class_names of {path} is {names.dtype} {names.shape}{flaw}; expected one text for each class, in the "
            "labels' order: `class_names=numpy.array(['cat', 'dog'])`"
        )
    return read_texts(path, "class_names", names)


def read_texts(path: Path, name: str, values: Any) -> list[str]:
    """Return an array `(n,)` as texts.

    Raises:
      DatasetError: a text holds a number that is no character.
    """
    if values.dtype.kind == "U":
        codes = np.ascontiguousarray(values).view(values.dtype.byteorder + "u4")
        if codes.max(initial=0) > sys.maxunicode:
            raise DatasetError(
                f"{to_printable(name)} of {path} is no text: it holds numbers that stand for no character"
            )
    return [to_text(value) for value in values]


def list_values(values: Any) -> str:
    """Return the first values in one line, in printable characters."""
    return join_first([to_printable(str(value)) for value in values])
