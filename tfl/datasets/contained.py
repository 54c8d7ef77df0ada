"""Image files that lie in larger files (tars, tables), by row: what sources of such data sets share."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfl.datasets.class_labels import Label, find_classes, name_classes, number_labels
from tfl.datasets.division import ALL, Division, hash_key
from tfl.datasets.image_files import Examined, examine_image, read_ahead, require_unchanged
from tfl.datasets.images import decode_image
from tfl.datasets.source import BadImage, Dataset, Example, to_text
from tfl.datasets.splits import split_names
from tfl.errors import DatasetError
from tfl.specs import DIGEST_PREFIX, DatasetSpec
from tfl.text import join_first, to_printable


@dataclass(frozen=True)
class Rows:
    """The image files of one split. Row i has the i-th id and label."""

    ids: Sequence[str]
    labels: Sequence[Label | None]
    """As they are stored: numbers, text, or None where a row has none."""
    read: Callable[[int], bytes]
    """Return the content of a row's image file; a DatasetError says why there is none. Several threads may call it."""
    name_of: Callable[[int], str]
    """Return the name of a row for messages."""
    keys: Sequence[bytes] | None = None
    """What decides the part of each image, and percent slices; None for the digest of its content."""


class ContainedDataset(Dataset):
    """Image files in larger files, decoded as files of a folder are.

    Opening the dataset reads every image file, one at a time: the version is a digest of all contents, ids and
    labels, and a file that cannot be used is known before any time is spent. Each is compared with
    its digest when its row is read.

    Args:
      splits: the rows of each split; of `all` alone if the dataset has none.
      class_names: of labels that count from 0; None if the labels that occur in the first split
        in use are the classes.

    Raises:
      DatasetError: there is no such split, or a row of a split in use has no label, or one that is
        no class.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Rows],
        spec: DatasetSpec,
        max_image_pixels: int,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self._splits = splits
        self._max_image_pixels = max_image_pixels
        is_divided = list(splits) == [ALL]
        self.division = Division.from_spec(spec) if is_divided else None
        self._seed = spec.split_seed
        self.num_rows = {split: len(rows.ids) for split, rows in splits.items()}
        self._used = [ALL] if is_divided else split_names(spec)
        self._require_used_splits()
        self._classes = self._find_classes() if class_names is None else range(len(class_names))
        self.class_names = name_classes(self._classes) if class_names is None else tuple(class_names)
        self._labels: dict[str, np.ndarray] = {}
        for split in self._used:
            self.labels(split)  # now, because a row may have none
        self._examined: dict[str, list[Examined]] = {}
        self.version = DIGEST_PREFIX + self._examine_images(class_names)
        self._id_hashes: dict[str, np.ndarray] = {}

    def _require_used_splits(self) -> None:
        missing = [split for split in self._used if not self.num_rows.get(split)]
        if not missing:
            return
        full = [split for split, count in self.num_rows.items() if count]
        if not full:
            raise DatasetError(f"{self.name} holds no images")
        only = full[0] if len(full) == 1 else ""
        ways = f"; divide it: --train-split '{only}[:80%]' --test-split '{only}[80%:]'" if only else ""
        raise DatasetError(
            f"{self.name} has no images in the split(s) {', '.join(missing)}; it has {', '.join(full)} "
            f"(an empty string leaves a role out: --test-split ''){ways}"
        )

    def _find_classes(self) -> Sequence[Label]:
        """Return the labels that occur in the first split in use."""
        first = self._splits[self._used[0]]
        return find_classes(first.labels, first.name_of)

    def _examine_images(self, class_names: Sequence[str] | None) -> str:
        """Examine every image of every split; return the digest of all that decides the dataset's rows.

        It is the same whichever splits are in use.
        """
        digest = hashlib.sha256(repr(class_names and list(class_names)).encode())
        for split, rows in self._splits.items():
            self._examined[split] = []
            for row, (id_, label) in enumerate(zip(rows.ids, rows.labels, strict=True)):
                examined = self._examine(rows, row)
                self._examined[split].append(examined)
                digest.update(repr((split, id_, label, examined.digest_text)).encode())
        return digest.hexdigest()

    def _examine(self, rows: Rows, row: int) -> Examined:
        examined = examine_image(lambda: rows.read(row), rows.name_of(row), self._max_image_pixels)
        try:
            rows.ids[row].encode()
        except UnicodeEncodeError:
            return examined._replace(reason=f"cannot use {rows.name_of(row)}: its name is not UTF-8; rename it")
        return examined

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        examined = self._examined[split]
        return [self._to_bad(split, row) for row in range(start, stop) if examined[row].reason]

    def _to_bad(self, split: str, row: int) -> BadImage:
        return BadImage(to_text(self._splits[split].ids[row]), self._examined[split][row].reason)

    def require_good_classes(self) -> None:
        for split in self._used:
            labels = self._labels[split]  # (n,)
            is_good = np.asarray([not examined.reason for examined in self._examined[split]], bool)  # (n,)
            lost = np.setdiff1d(labels, labels[is_good])
            if is_good.any() and len(lost):
                names = join_first([to_printable(self.class_names[label]) for label in lost])
                rows = np.flatnonzero(np.isin(labels, lost))
                raise DatasetError(
                    f"none of the {len(rows)} images of {names} in {split!r} of {self.name} can be used: "
                    f"{self._examined[split][rows[0]].reason}",
                    "A class needs an image: repair them, or leave the class out",
                )

    def labels(self, split: str) -> np.ndarray:
        """Return the label of every row of a split, int64 `(n,)`.

        Raises:
          DatasetError: the split is not in use, and has a row without a label, or with one that is no class.
        """
        if split not in self._labels:
            rows = self._splits[split]
            self._labels[split] = number_labels(rows.labels, self._classes, rows.name_of)
        return self._labels[split]

    def id_hashes(self, split: str) -> np.ndarray:
        """Return a hash of every image's key, uint64 `(n,)`: other images do not change it."""
        if split not in self._id_hashes:
            keys = self._splits[split].keys
            if keys is None:
                keys = [examined.digest for examined in self._examined[split]]
            self._id_hashes[split] = np.asarray([hash_key(key, self._seed) for key in keys], np.uint64)
        return self._id_hashes[split]

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
        return self.examples_at(split, range(start, stop))

    def examples_at(self, split: str, rows: Sequence[int]) -> Iterator[Example | BadImage]:
        """Yield these rows; large images are decoded by several threads."""
        examined = self._examined[split]
        return read_ahead(lambda row: self._read(split, row), rows, lambda row: examined[row].num_bytes)

    def _read(self, split: str, row: int) -> Example | BadImage:
        """Read an image.

        Raises:
          DatasetError: its content is not the one that is in the version's digest.
        """
        rows, examined = self._splits[split], self._examined[split][row]
        if examined.reason:
            return self._to_bad(split, row)
        content, name = rows.read(row), rows.name_of(row)
        require_unchanged(content, examined, name)
        try:
            image = decode_image(content, name, self._max_image_pixels)
        except DatasetError as error:
            return BadImage(rows.ids[row], str(error))
        return Example(image, int(self.labels(split)[row]), rows.ids[row])
