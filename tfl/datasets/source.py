"""What every kind of dataset offers: a name, a version, and labelled images by row."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

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


@runtime_checkable
class Labelled(Protocol):
    """A dataset that knows its labels without reading an image."""

    def labels(self, split: str) -> np.ndarray:
        """The label of every row of a split, int64 `(n,)`."""


@runtime_checkable
class CutByImage(Protocol):
    """A dataset whose percent slices are cut by each image's own place, not by rows.

    Rows that stand class by class make slices of rows that lose classes.
    """

    def places(self, split: str) -> np.ndarray:
        """For every row of a split a number in 0..2**64-1, uint64 `(n,)`, which depends on that image's id alone."""

    def examples_at(self, split: str, rows: Sequence[int]) -> Iterator[Example | BadImage]:
        """These rows of a split, in this order; see `Dataset.examples`."""


def to_text(value: Any) -> str:
    """A name, id or path as text that can be written: what is not UTF-8 stands in backslash escapes."""
    if isinstance(value, Path):
        value = os.fsencode(value)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value).encode(errors="backslashreplace").decode()
