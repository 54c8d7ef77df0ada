"""What every kind of dataset offers: a name, a version, and labelled images by row."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Example(NamedTuple):
    """One labelled image: uint8 RGB `(h, w, 3)`, the index of its class, the dataset's own id."""

    image: np.ndarray
    label: int
    id: str


class BadImage(NamedTuple):
    """An image that cannot be used, and why; the reason names the file and says what to do."""

    id: str
    reason: str


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

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
        """Rows `start` to `stop` of a split, in stored order; a bad file is said in its place, not raised."""

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        """Those of these rows that opening the dataset already found to be unusable."""


def as_text(value: Any) -> str:
    """A name, id or path as text that can be written: what is not UTF-8 stands in backslash escapes."""
    if isinstance(value, Path):
        value = os.fsencode(value)
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
