"""What every kind of dataset offers: a name, a version, and labelled images by row."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np


class Example(NamedTuple):
    """One labelled image: uint8 RGB `(h, w, 3)`, the index of its class, the dataset's own id."""

    image: np.ndarray
    label: int
    id: str


class Dataset(Protocol):
    """A source of labelled images; of TensorFlow Datasets, a folder or an .npz file."""

    name: str
    version: str  # a version number, or "sha256:..." of the content

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label, in the labels' order."""

    @property
    def num_rows(self) -> dict[str, int]:
        """How many images each split has."""

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Rows `start` to `stop` of a split, in stored order."""
