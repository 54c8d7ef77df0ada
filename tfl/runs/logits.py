"""A head's logits on the rows of a cache."""

from collections.abc import Iterator

import keras
import numpy as np

from tfl.cache import Cache
from tfl.heads.examples import Examples, Streamed
from tfl.heads.model import compute_logits
from tfl.heads.selection import select_classes, select_views
from tfl.specs import Role
from tfl.specs.training import Selection


def stream_rows(cache: Cache, role: Role, selection: Selection) -> Streamed:
    """Return the rows to measure on: the mean of the selected views, the selected classes only."""
    views, classes = select_views(cache, selection), select_classes(cache, selection)
    return Streamed(cache, role, views=views, is_averaged=True, classes=classes)


def iterate_logits(head: keras.Model, examples: Examples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a head's logits and the labels, block by block."""
    return ((compute_logits(head, features), labels) for features, labels in examples.blocks())


def compute_all_logits(head: keras.Model, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Return a head's logits `(n, c)` and the labels `(n,)`."""
    logits, labels = zip(*iterate_logits(head, examples), strict=True)
    return np.concatenate(logits), np.concatenate(labels)
