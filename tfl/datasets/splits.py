"""Split expressions, `train[:8%]`, as rows of a dataset."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from tfl.datasets.division import ALL, DIVIDE_AGAIN
from tfl.datasets.source import BadImage, Dataset, Example
from tfl.errors import DatasetError, SpecError
from tfl.specs import DatasetSpec

NUM_HASHES = 1 << 64  # see Dataset.id_hashes
DECIMALS = 12  # of a percent slice of a part; `_BOUND` reads no more than 18


class Interval(NamedTuple):
    """Rows `start` to `stop` (not included) of one split."""

    split: str
    start: int
    stop: int

    @property
    def rows(self) -> range:
        """The rows, in their order."""
        return range(self.start, self.stop)

    def read(self, dataset: Dataset, begin: int, end: int) -> Iterator[Example | BadImage]:
        """Yield rows `begin` to `end` of the interval, counted from its start."""
        return dataset.examples(self.split, self.start + begin, self.start + end)

    def list_bad(self, dataset: Dataset) -> Sequence[BadImage]:
        """Return the images that are known to be unusable."""
        return dataset.known_bad(self.split, self.start, self.stop)

    def __str__(self) -> str:
        return f"{self.split}[{self.start}:{self.stop}]"


@dataclass(frozen=True, eq=False)
class HashRange:
    """The images of one split whose id hashes lie between two percentages of the largest hash.

    An image's hash depends on its id alone, so that an image stays in its slice when others are
    added.

    Attributes:
      start: percent.
      stop: percent, not included.
      rows: the rows of these images, ascending.
    """

    split: str
    start: Decimal
    stop: Decimal
    rows: np.ndarray

    def read(self, dataset: Dataset, begin: int, end: int) -> Iterator[Example | BadImage]:
        """Yield rows `begin` to `end` of the range, counted from its first."""
        return dataset.examples_at(self.split, self.rows[begin:end].tolist())

    def list_bad(self, dataset: Dataset) -> Sequence[BadImage]:
        """Return the images that are known to be unusable."""
        found: list[BadImage] = []
        for row in self.rows.tolist():
            found.extend(dataset.known_bad(self.split, row, row + 1))
        return found

    def __str__(self) -> str:
        return f"{self.split}[{format_percent(self.start)}%:{format_percent(self.stop)}%]"


class _Term(NamedTuple):
    """One summand of a split expression, as text: `train[10%:-5%]`."""

    name: str
    start: str
    stop: str

    @property
    def is_percent(self) -> bool:
        return (self.start or self.stop).endswith("%")


_BOUND = r"-?\d(?:_?\d){0,17}|-?\d{1,18}(?:\.\d{1,18})?%"
_SPLIT = re.compile(rf"(?P<name>[\w.-]+)(\[(?P<start>{_BOUND})?:(?P<stop>{_BOUND})?\])?")


def split_names(spec: DatasetSpec) -> list[str]:
    """Return the names of the splits that a spec's roles are cut from, without slices, in the order of the roles."""
    names = [term.name for split in spec.roles.values() for term in _parse(split)]
    return list(dict.fromkeys(names))


def select_rows(dataset: Dataset, split: str) -> list[Interval | HashRange]:
    """Return the rows a split expression selects: `train`, `train[:4000]`, `train[10%:-5%]`, and sums of them with `+`.

    Rows are selected as by `tfds.load`: percentages are rounded to the nearest row, negative bounds
    count from the end. If the dataset hashes its ids (a folder does), a percent slice takes the
    images whose hash is in that range: about that share of every class, and the same images
    whatever else is there.

    Raises:
      SpecError: the expression is not of that form.
      DatasetError: the dataset has no such split, a bound is beyond its rows, or no image is
        selected.
    """
    pieces = []
    for term in _parse(split):
        if term.name not in _list_splits(dataset):
            raise DatasetError(
                f"{dataset.name} has no split {term.name!r}; it has {', '.join(_list_splits(dataset)) or 'none'} "
                f"(an empty string leaves a role out: --test-split ''){_advise_on_share(dataset, term.name)}"
            )
        piece = _select(dataset, term, split)
        if len(piece.rows) == 0:
            num_rows = sum(dataset.num_rows.values()) if dataset.division else dataset.num_rows[term.name]
            of = dataset.name if dataset.division else repr(term.name)
            advice = f"; give {DIVIDE_AGAIN}" if dataset.division else ""
            raise DatasetError(f"split {split!r} chooses no image: {of} has {num_rows} rows{advice}")
        pieces.append(piece)
    return pieces


def _advise_on_share(dataset: Dataset, name: str) -> str:
    """Return the flag that gives images to a part that has none, or nothing if there is no such flag."""
    has_flag = dataset.division is not None and name in ("val", "test")
    return f"; give it a share: --{name}-fraction" if has_flag else ""


def _list_splits(dataset: Dataset) -> list[str]:
    return [*dataset.num_rows, *(dataset.division.parts if dataset.division else ())]


def _select(dataset: Dataset, term: _Term, split: str) -> Interval | HashRange:
    if dataset.division is not None and term.name in dataset.division.parts:
        return _select_part(dataset, term, dataset.division.parts[term.name], split)
    hashes = dataset.id_hashes(term.name) if term.is_percent else None
    if hashes is not None:
        return _select_hashes(hashes, term.name, *_percents_of(term, split))
    count = dataset.num_rows[term.name]
    start = _to_row(term.start or "0", count, split)
    return Interval(term.name, start, _to_row(term.stop or str(count), count, split))


def _select_part(dataset: Dataset, term: _Term, part: tuple[Decimal, Decimal], split: str) -> Interval | HashRange:
    """Return the images of a part of the split `all`, or of a percent slice of it."""
    if (term.start or term.stop) and not term.is_percent:
        raise SpecError(
            f"split {split!r} counts rows, but {term.name} of {dataset.name} is a share of all images; expected a "
            f"slice in percent, such as {term.name}[:50%]"
        )
    first, last = part
    width = last - first
    start, stop = (round(first + width * bound / 100, DECIMALS) for bound in _percents_of(term, split))
    hashes = dataset.id_hashes(ALL)
    assert hashes is not None, "a dataset with a division hashes its ids"
    return _select_hashes(hashes, ALL, start, stop)


def _select_hashes(hashes: np.ndarray, name: str, start: Decimal, stop: Decimal) -> Interval | HashRange:
    """Return the images of a percent slice; all rows of the split if the slice takes all of them."""
    if start == 0 and stop == 100:
        return Interval(name, 0, len(hashes))
    low, high = (math.ceil(Fraction(bound) * NUM_HASHES / 100) for bound in (start, stop))
    if low >= high:
        return Interval(name, 0, 0)
    is_selected = (hashes >= np.uint64(low)) & (hashes <= np.uint64(high - 1))
    return HashRange(name, start, stop, np.flatnonzero(is_selected))


def _parse(split: str) -> list[_Term]:
    terms = []
    for summand in split.split("+"):
        match = _SPLIT.fullmatch(summand.strip())
        if match is None:
            raise SpecError(f"a split is NAME, NAME[10:20], NAME[:8%] or a sum of them with +; got {split!r}")
        term = _Term(match["name"], match["start"] or "", match["stop"] or "")
        if term.start and term.stop and term.start.endswith("%") != term.stop.endswith("%"):
            raise SpecError(f"the bounds of a slice are both rows or both percent; got {split!r}")
        terms.append(term)
    return terms


def _to_row(bound: str, count: int, split: str) -> int:
    is_percent = bound.endswith("%")
    row = round(float(bound[:-1]) * count / 100) if is_percent else int(bound)
    if abs(row) > count or (is_percent and abs(float(bound[:-1])) > 100):
        raise DatasetError(f"split {split!r} reaches {bound}, but there are {count} rows")
    return row + count if row < 0 else row


def _percents_of(term: _Term, split: str) -> tuple[Decimal, Decimal]:
    return _to_percent(term.start or "0%", split), _to_percent(term.stop or "100%", split)


def _to_percent(bound: str, split: str) -> Decimal:
    """Return a bound in percent from the beginning, 0 to 100."""
    percent = Decimal(bound[:-1])
    if abs(percent) > 100:
        raise DatasetError(f"split {split!r} reaches {bound}; expected at most 100%")
    return percent + 100 if percent < 0 else abs(percent)  # abs: for -0


def format_percent(percent: Decimal) -> str:
    """Return the number without an exponent and without trailing zeros."""
    text = format(percent, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
