"""Labels of any kind as numbers of classes."""

import math
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from tfl.sklearn.errors import EstimatorError


def encode_labels(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the different labels, sorted `(c,)`, and the place of each image's label among them `(n,)`.

    Raises:
      EstimatorError: labels are missing, or there is only one class.
      ValueError: they are no classes (scikit-learn says why).
    """
    if y is None:
        raise EstimatorError("requires y to be passed, but the target y is None: a classifier needs labels")
    _require_present(y)
    values = column_or_1d(y, warn=True)
    check_classification_targets(values)
    classes, labels = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise EstimatorError(f"a classifier tells classes apart, and y has one class only: {classes[0]!r}")
    return classes, labels.astype(np.int64)


def require_one_each(labels: np.ndarray, num_images: int) -> None:
    """Refuse labels `(n,)` of which there is not one for each image.

    Raises:
      EstimatorError: both numbers.
    """
    if len(labels) != num_images:
        raise EstimatorError(f"got {num_images} images and {len(labels)} labels; expected one label for each image")


def _require_present(y: Any) -> None:
    """Refuse None, NaN and infinity, where numpy would make the text "nan" of it among names."""
    items = y if isinstance(y, list | tuple) else getattr(y, "tolist", list)()
    missing = [row for row, item in enumerate(items) if _is_missing(item)]
    if missing:
        raise EstimatorError(f"y holds None, NaN or infinity in row {missing[0]}: leave that image out, or label it")


def _is_missing(item: Any) -> bool:
    return item is None or (isinstance(item, float) and not math.isfinite(item))


def name_classes(classes: np.ndarray) -> tuple[str, ...]:
    """Return the labels as the texts that an exported model shows.

    Raises:
      EstimatorError: two labels have the same text.
    """
    names = tuple(map(str, classes.tolist()))
    if len(set(names)) != len(names):
        raise EstimatorError(f"two labels have the same text: {', '.join(names[:20])}; expected different ones")
    return names
