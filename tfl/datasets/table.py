"""A table of images: CSV, TSV, JSON Lines or Parquet with columns of paths and labels."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from tfl.datasets.division import ALL, Division, hash_key
from tfl.datasets.image_files import Examined, read_ahead
from tfl.datasets.images import decode_image
from tfl.datasets.locations import Location, locate_images
from tfl.datasets.source import BadImage, Dataset, Example, Source, to_text
from tfl.datasets.splits import select_rows, split_names
from tfl.datasets.table_checks import (
    require_one_row_each,
    require_one_spelling,
    require_unique_ids,
    require_whole_groups,
    warn_of_cases,
)
from tfl.datasets.table_columns import choose_columns
from tfl.datasets.table_formats import FORMATS, is_table_name, open_table
from tfl.datasets.table_rows import TableRows, read_rows
from tfl.errors import DatasetError
from tfl.files.paths import expand_user
from tfl.machine.batching import parallel_map
from tfl.specs import DIGEST_PREFIX, MAX_IMAGE_PIXELS, ROLES, DatasetSpec
from tfl.text import join_first, to_printable

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_NUMBER = re.compile(r"\s*[+-]?\d+(\.\d+)?\s*")


class TableDataset(Dataset):
    """Images that a table names, one a row, in the table's order; labels are text, and the classes their sorted names.

    A column of splits gives the splits; without one, the split is `all`, divided by a hash of each
    image's group, or of its id. The id is the path as the table has it, or the value in the column of ids.

    Opening the table examines every file, as opening a folder does; of files on other machines see
    `RemoteFile`. The version is a digest of ids, labels, splits, groups and contents, in the table's order.

    Args:
      spec: names the columns, if their names are not the usual ones, and the splits that will be used.
      max_image_pixels: most pixels (height x width) that a file may claim in its header.

    Raises:
      DatasetError: columns, cells or files are missing, rows contradict one another, or a group is in
        two roles; with the numbers of the lines.
    """

    def __init__(self, path: Path, spec: DatasetSpec, max_image_pixels: int = MAX_IMAGE_PIXELS) -> None:
        self._path = path.resolve()
        self.name = to_text(Path(self._path.stem))
        self._max_image_pixels = max_image_pixels
        self._table = self._read(spec)
        self._locations = self._find_images()
        self._rows = self._find_splits()
        self.num_rows = {split: len(rows) for split, rows in self._rows.items()}
        if ALL in self._rows:
            self.division = Division.from_spec(spec)
        self._used = self._find_used(spec)
        self.class_names = self._find_classes()
        self._label_of = {name: label for label, name in enumerate(self.class_names)}
        keys = self._table.groups or self._table.ids
        self._id_hashes = np.asarray([hash_key(key.encode(), spec.split_seed) for key in keys], np.uint64)  # (n,)
        if self._table.groups:
            require_whole_groups(self._table, self._list_used_rows(spec))
        self._examined = self._examine_files()
        self.version = self._compute_version()

    def _read(self, spec: DatasetSpec) -> TableRows:
        """Read and check the rows."""
        name = str(self._path)
        table = open_table(self._path, spec)
        columns = choose_columns(name, table.columns, spec)
        rows = read_rows(table, name, columns)
        taken = ", ".join(f"{noun} from {column!r}" for noun, column in columns.items())
        logger.info("%s has %s rows: %s", to_printable(name), f"{len(rows.numbers):,}", to_printable(taken))
        require_one_spelling(rows, rows.labels, "labels", "classes")
        require_one_spelling(rows, rows.groups, "groups", "groups")
        if rows.ids:
            require_unique_ids(rows)
        return rows

    def _find_images(self) -> list[Location]:
        """Return where each row's image is; refuse files that are missing or named twice."""
        table, folder = self._table, self._path.parent
        locations = locate_images(table.images, folder)
        require_one_row_each(table, (location.key for location in locations))
        table.ids = table.ids or table.images
        faults = _map_by_threads(lambda location: location.find_fault(), locations)
        lines = [f"{table.place(row)}: {table.images[row]}: {fault}" for row, fault in enumerate(faults) if fault]
        advice = f"relative paths begin at the folder of the table, {folder}"
        if any("\\" in text for text in table.images):
            advice += "; folders are separated by /, not by \\"
        table.require_none(lines, "images are missing", advice)
        return locations

    def _find_splits(self) -> dict[str, np.ndarray]:
        """Return the rows of each split in the table, `(n,)`."""
        splits = np.asarray(self._table.splits)
        if not len(splits):
            return {ALL: np.arange(len(self._table.numbers))}
        rows = {role: np.flatnonzero(splits == role) for role in ROLES}
        return {role: of_role for role, of_role in rows.items() if len(of_role)}

    def _find_used(self, spec: DatasetSpec) -> list[str]:
        used = [split for split in split_names(spec) if split in self._rows] or list(self._rows)
        name = to_printable(self.name)
        for split in [split for split in self._rows if split not in used]:
            flag = f"--{split}-split {split}"
            logger.info("%d rows of %s are in %s, which is not used; %s", self.num_rows[split], name, split, flag)
        return used

    def _find_classes(self) -> tuple[str, ...]:
        """Return the labels of the splits in use, sorted as text."""
        labels = [self._table.labels[row] for split in self._used for row in self._rows[split]]
        names = tuple(sorted(set(labels)))
        warn_of_cases(names)
        if any(map(_NUMBER.fullmatch, names)):
            shown = to_printable(join_first(names, "classes"))
            logger.info("labels are names, not numbers; the classes are sorted as text: %s", shown)
        return names

    def _list_used_rows(self, spec: DatasetSpec) -> Iterator[tuple[str, int]]:
        """Yield the role and number of each row in use."""
        if self.division is not None:
            spec = self.division.use_parts(spec)
        for role, split in spec.roles.items():
            for piece in select_rows(self, split):
                for row in self._rows[piece.split][np.asarray(piece.rows)].tolist():
                    yield role, row

    def _examine_files(self) -> list[Examined]:
        limit = self._max_image_pixels
        return list(_map_by_threads(lambda location: location.examine(limit), self._locations))

    def _compute_version(self) -> str:
        digest = hashlib.sha256()
        table = self._table
        columns = (table.ids, table.labels, table.splits, table.groups)
        for row, examined in enumerate(self._examined):
            texts = [texts[row] if texts else None for texts in columns]
            digest.update(json.dumps([*texts, examined.digest_text]).encode() + b"\n")
        return DIGEST_PREFIX + digest.hexdigest()

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        rows = self._rows[split][start:stop].tolist()
        return [self._to_bad(row) for row in rows if self._examined[row].reason]

    def _to_bad(self, row: int) -> BadImage:
        return BadImage(self._table.ids[row], f"{self._examined[row].reason} ({self._table.place(row)} of the table)")

    def require_good_classes(self) -> None:
        for split in self._used:
            first_bad: dict[str, int] = {}
            good = set()
            for row in self._rows[split].tolist():
                label = self._table.labels[row]
                if self._examined[row].reason:
                    first_bad.setdefault(label, row)
                else:
                    good.add(label)
            lost = sorted(first_bad.keys() - good)
            if good and lost:
                count = sum(self._table.labels[row] in lost for row in self._rows[split])
                raise DatasetError(
                    f"none of the {count} images of {join_first([repr(label) for label in lost])} in {split} of "
                    f"{self._path} can be used: {self._to_bad(first_bad[lost[0]]).reason}",
                    "A class needs an image: repair them, or remove their rows",
                )

    def labels(self, split: str) -> np.ndarray:
        """Return the label of every row of a split in use, int64 `(n,)`."""
        return np.asarray([self._label_of[self._table.labels[row]] for row in self._rows[split]], np.int64)

    def id_hashes(self, split: str) -> np.ndarray:
        """Return a hash of every image's group, or of its id, uint64 `(n,)`: a slice by percent has whole groups."""
        return np.asarray(self._id_hashes[self._rows[split]])

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
        return self.examples_at(split, range(start, stop))

    def examples_at(self, split: str, rows: Sequence[int]) -> Iterator[Example | BadImage]:
        numbers = self._rows[split][np.asarray(rows, np.int64)].tolist()
        num_threads = max((self._locations[row].num_threads for row in numbers), default=0)
        return read_ahead(self._read_image, numbers, lambda row: self._examined[row].num_bytes, num_threads)

    def _read_image(self, row: int) -> Example | BadImage:
        examined, location = self._examined[row], self._locations[row]
        if examined.reason:
            return self._to_bad(row)
        content = location.read(examined)
        try:
            image = decode_image(content, location.name, self._max_image_pixels)
        except DatasetError as error:
            return BadImage(self._table.ids[row], f"{error} ({self._table.place(row)} of the table)")
        return Example(image, self._label_of[self._table.labels[row]], self._table.ids[row])


def _map_by_threads(work: Callable[[Location], Result], locations: Sequence[Location]) -> Iterator[Result]:
    """Yield what `work` returns for each location; threads wait for other machines, if some are on those."""
    num_threads = max(location.num_threads for location in locations)
    if num_threads == 0:
        return map(work, locations)
    return parallel_map(work, locations, lambda location: 0, num_threads=num_threads)


def _open(path: str, spec: DatasetSpec, max_image_pixels: int) -> TableDataset:
    return TableDataset(expand_user(path), spec, max_image_pixels)


def _owns(word: str) -> bool:
    return is_table_name(expand_user(word))


TABLE = Source(
    name="table",
    noun=f"a table with columns path and label ({', '.join(FORMATS)})",
    open_dataset=_open,
    owns=_owns,
    keys=frozenset({"image_key", "label_key", "split_key", "id_key", "group_key"}),
    is_path=True,
)
