"""Labels as numbers or text, of rows that say their own class; the classes that they make."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfl.datasets.source import to_text
from tfl.datasets.spelling import find_spellings
from tfl.errors import DatasetError
from tfl.text import join_first, to_printable

Label = int | str
RowName = Callable[[int], str]
"""The name of a row, for messages."""


def find_classes(labels: Sequence[Label | None], name_of: RowName) -> tuple[Label, ...]:
    """Return the labels that occur: numbers in their order, or texts sorted as Keras sorts the names of folders.

    Raises:
      DatasetError: a row has no label, there are both numbers and texts, or two texts differ in white
        space alone.
    """
    _require_labels(labels, name_of)
    numbers = {label for label in labels if isinstance(label, int)}
    texts = {label for label in labels if isinstance(label, str)}
    if numbers and texts:
        row = next(row for row, label in enumerate(labels) if isinstance(label, int) != isinstance(labels[0], int))
        raise DatasetError(
            f"{name_of(row)} has the label {_show(labels[row])}, and {name_of(0)} {_show(labels[0])}; expected "
            "numbers for all images, or text for all"
        )
    _refuse_spellings(texts)
    return tuple(sorted(numbers)) or tuple(sorted(texts))


def number_labels(labels: Sequence[Label | None], classes: Sequence[Label], name_of: RowName) -> np.ndarray:
    """Return the position of each label among the classes, int64 `(n,)`.

    Raises:
      DatasetError: a row has no label, or one that is no class.
    """
    _require_labels(labels, name_of)
    position_of = {label: position for position, label in enumerate(classes)}
    for row, label in enumerate(labels):
        if label not in position_of:
            known = join_first([_show(each) for each in classes])
            raise DatasetError(
                f"{name_of(row)} has the label {_show(label)}; expected one of the classes (those of the training "
                f"split): {known}"
            )
    return np.asarray([position_of[label] for label in labels if label is not None], np.int64)


def name_classes(classes: Iterable[Label]) -> tuple[str, ...]:
    """Return the name of each class; that of a number is its digits."""
    return tuple(map(to_text, classes))


def _require_labels(labels: Sequence[Label | None], name_of: RowName) -> None:
    for row, label in enumerate(labels):
        if label is None or (isinstance(label, str) and not label.strip()):
            raise DatasetError(
                f"{name_of(row)} has no label; every image of a split in use needs one: label it or leave it out"
            )


def _refuse_spellings(texts: Iterable[str]) -> None:
    """Refuse two texts that look alike: they would be two classes."""
    for text, other in find_spellings(sorted(texts)):
        raise DatasetError(f"the labels {_show(other)} and {_show(text)} differ in white space alone; spell them alike")


def _show(label: Label | None) -> str:
    return repr(to_printable(label)) if isinstance(label, str) else str(label)
