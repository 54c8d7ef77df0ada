"""The interface of a dataset, and the record of a dataset source."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfl.datasets.division import Division
from tfl.files.paths import expand_user
from tfl.specs import DatasetSpec


class Example(NamedTuple):
    """One labelled image: uint8 RGB `(h, w, 3)`, the index of its class, and the dataset's own id."""

    image: np.ndarray
    label: int
    id: str


class BadImage(NamedTuple):
    """An image that cannot be used; the reason names the file and says what to do."""

    id: str
    reason: str


class Dataset:
    """Labelled images by row. A source's own class sets the first four attributes and implements `examples`."""

    name: str
    version: str
    """A version number, or "sha256:..." of the content."""
    class_names: tuple[str, ...]
    """The name of each label, in the labels' order."""
    num_rows: dict[str, int]
    """Images of each split."""

    division: Division | None = None
    """Parts of the one split `all`, where the dataset has no splits of its own; it then implements `id_hashes`."""
    image_shape: tuple[int, int] | None = None
    """Height and width of every image, if they are known to be the same."""
    neighbours_read_together: int = 1
    """Rows that are best read together when only some rows of a split are needed."""

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
        """Yield rows `start` to `stop` of a split, in stored order; an unusable file is a `BadImage` in its row."""
        raise NotImplementedError

    def examples_at(self, split: str, rows: Sequence[int]) -> Iterator[Example | BadImage]:
        """Yield these rows of a split, in this order."""
        for row in rows:
            yield from self.examples(split, row, row + 1)

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        """Return the images among these rows that were found unusable when the dataset was opened."""
        return ()

    def require_good_classes(self) -> None:
        """Refuse to go on without the bad images if a class would lose all its images.

        Raises:
          DatasetError: the class, and why its images are unusable.
        """

    def labels(self, split: str) -> np.ndarray | None:
        """Return the label of every row of a split, int64 `(n,)`; None if labels come only with the images."""
        return None

    def id_hashes(self, split: str) -> np.ndarray | None:
        """Return a hash of each image's id, uint64 `(n,)`, to slice by percent; None if percent slices are of rows.

        Slices of rows would lose classes if the rows are stored class by class.
        """
        return None


def owns_no_word(word: str) -> bool:
    """Return False: the source is chosen by its prefix alone."""
    return False


def make_absolute(path: str) -> str:
    """Return a path as it can be found from any working directory."""
    return str(expand_user(path).resolve())


@dataclass(frozen=True)
class Source:
    """One kind of dataset. A word such as `folder:photos` chooses it by its prefix."""

    name: str
    """The prefix without its colon."""
    noun: str
    """Completes "expected ..." in messages: "an .npz file"."""
    open_dataset: Callable[[str, DatasetSpec, int], Dataset]
    """Open the dataset that a word without prefix names. The other arguments are the spec, whose
    splits will be used, and the most pixels that an image file may claim in its header."""
    owns: Callable[[str], bool] = owns_no_word
    """Return whether a word without prefix names a dataset of this source."""
    keys: frozenset[str] = frozenset()
    """The fields of a DatasetSpec that end in `_key` and that datasets of this source understand."""
    is_path: bool = False
    """Whether words are paths of files on this machine; see `is_name`."""
    is_name: Callable[[str], bool] = owns_no_word
    """Return whether a word of a source of paths is a name all the same, such as that of a dataset on a hub."""
    make_absolute: Callable[[str], str] = make_absolute
    """Return a path, or whatever the source takes for one, as it can be found from any working directory."""
    is_fallback: bool = False
    """Whether a word without prefix that no source owns goes to this one; true of a single source."""

    @property
    def prefix(self) -> str:
        """The text in front of a word that chooses this source."""
        return f"{self.name}:"


def to_text(value: Any) -> str:
    """Return a name, id or path as text that UTF-8 can encode; other bytes become backslash escapes."""
    if isinstance(value, Path):
        value = os.fsencode(value)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value).encode(errors="backslashreplace").decode()
