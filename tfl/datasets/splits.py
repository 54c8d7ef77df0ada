"""Split expressions, `train[:8%]`, as rows of a dataset."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tfl.datasets.source import BadImage, CutByImage, Dataset, Example, Labelled
from tfl.errors import DatasetError, SpecError
from tfl.specs import ROLES, DatasetSpec, Role
from tfl.text import to_printable

NUM_PLACES = 1 << 64  # see CutByImage.places


class Interval(NamedTuple):
    """Rows `start` to `stop` (not included) of one split."""

    split: str
    start: int
    stop: int

    @property
    def rows(self) -> range:
        """The rows, in their order."""
        return range(self.start, self.stop)

    def __str__(self) -> str:
        return f"{self.split}[{self.start}:{self.stop}]"


@dataclass(frozen=True, eq=False)
class Part:
    """The images of one split whose places are from `start` to `stop` (not included) percent of all places.

    Attributes:
      rows: where they stand now, ascending.
    """

    split: str
    start: Decimal
    stop: Decimal
    rows: np.ndarray

    def __str__(self) -> str:
        return f"{self.split}[{_plain(self.start)}%:{_plain(self.stop)}%]"


def resolve_spec(spec: DatasetSpec, dataset: Dataset) -> DatasetSpec:
    """The spec with the dataset's name and version, and with every split in absolute rows.

    Percent slices of a dataset that is cut by image stay in percent, in one spelling.

    Raises:
      DatasetError: a split is not there, selects no image, or shares images with another role's; or there are fewer
        than two classes, or two of one name.
    """
    if len(dataset.class_names) < 2:
        only = "one class, " + repr(to_printable(dataset.class_names[0])) if dataset.class_names else "no labels"
        raise DatasetError(f"{dataset.name} has {only}; at least two are needed")
    if repeated := sorted(name for name, count in Counter(dataset.class_names).items() if count > 1):
        shown = ", ".join(repr(to_printable(name)) for name in repeated[:10])
        raise DatasetError(f"{dataset.name} has several classes of the name {shown}; rename them")
    chosen = {role: select_rows(dataset, split) for role, split in spec.roles.items()}
    placed = [(role, piece) for role, pieces in chosen.items() for piece in pieces]
    for (role, a), (other, b) in combinations(placed, 2):
        if shared := _shared(a, b):
            raise DatasetError(
                f"{role}_split {spec.roles[role]!r} and {other}_split {spec.roles[other]!r} share images: {shared} of "
                f"{a.split!r}; choose splits that do not overlap"
            )
    splits = {role: "+".join(map(str, chosen.get(role, []))) for role in ROLES}
    return replace(
        spec,
        dataset=dataset.name,
        version=dataset.version,
        train_split=splits["train"],
        val_split=splits["val"],
        test_split=splits["test"],
    )


def _shared(a: Interval | Part, b: Interval | Part) -> str:
    """What two pieces have in common, in words; empty if it is nothing.

    Of two parts the percentages alone count: another image may come between them.
    """
    if a.split != b.split:
        return ""
    if isinstance(a, Part) and isinstance(b, Part):
        low, high = max(a.start, b.start), min(a.stop, b.stop)
        return f"{_plain(low)} % to {_plain(high)} %" if low < high else ""
    if isinstance(a, Interval) and isinstance(b, Interval):
        first, last = max(a.start, b.start), min(a.stop, b.stop)
        return f"rows {first} to {last}" if first < last else ""
    common = np.intersect1d(np.asarray(a.rows), np.asarray(b.rows))
    return f"{len(common)} rows, the first of them {common[0]}," if len(common) else ""


_BOUND = r"-?\d(?:_?\d){0,17}|-?\d{1,18}(?:\.\d{1,18})?%"
_SPLIT = re.compile(rf"(?P<name>[\w.-]+)(\[(?P<start>{_BOUND})?:(?P<stop>{_BOUND})?\])?")


def split_names(spec: DatasetSpec) -> list[str]:
    """The names of the splits that a spec's roles are cut from, without their slices, in the order of the roles."""
    return list(dict.fromkeys(name for split in spec.roles.values() for name, _, _ in _parse(split)))


def select_rows(dataset: Dataset, split: str) -> list[Interval | Part]:
    """The rows a split expression chooses: `train`, `train[:4000]`, `train[10%:-5%]`, and sums of them with `+`.

    Rows are chosen as by `tfds.load`: percentages are rounded to the nearest row, negative bounds count from the end.
    Of a dataset that is cut by image (`CutByImage`, a folder) a percent slice takes the images whose own places are in
    that range: about that share of every class, the same images whatever else is there.

    Raises:
      SpecError: the expression is not of that form.
      DatasetError: the dataset has no such split, a bound is beyond its rows, or no image is chosen.
    """
    pieces = []
    for name, start, stop in _parse(split):
        if name not in dataset.num_rows:
            raise DatasetError(
                f"{dataset.name} has no split {name!r}; it has {', '.join(dataset.num_rows) or 'none'} "
                "(an empty string leaves a role out: --test-split '')"
            )
        count = dataset.num_rows[name]
        piece: Interval | Part
        if isinstance(dataset, CutByImage) and (start or stop or "").endswith("%"):
            piece = _part(dataset, name, _percent(start or "0%", split), _percent(stop or "100%", split))
        else:
            piece = Interval(name, _row(start or "0", count, split), _row(stop or str(count), count, split))
        if len(piece.rows) == 0:
            raise DatasetError(f"split {split!r} chooses no image: {name!r} has {count} rows")
        pieces.append(piece)
    return pieces


def _part(dataset: CutByImage, split: str, start: Decimal, stop: Decimal) -> Interval | Part:
    """The images of a percent slice; the rows of the whole split where it takes all of them."""
    places = dataset.places(split)
    if start == 0 and stop == 100:
        return Interval(split, 0, len(places))
    low, high = (math.ceil(Fraction(bound) * NUM_PLACES / 100) for bound in (start, stop))
    if low >= high:
        return Interval(split, 0, 0)
    is_chosen = (places >= np.uint64(low)) & (places <= np.uint64(high - 1))
    return Part(split, start, stop, np.flatnonzero(is_chosen))


def read_rows(dataset: Dataset, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
    """Rows `start` to `stop` of what a split expression chooses, counted from its own beginning."""
    offset = 0
    for piece in select_rows(dataset, split):
        count = len(piece.rows)
        begin, end = max(start - offset, 0), min(stop - offset, count)
        if begin < end:
            yield from _examples(dataset, piece, begin, end)
        offset += count


def _examples(dataset: Dataset, piece: Interval | Part, begin: int, end: int) -> Iterator[Example | BadImage]:
    """Rows `begin` to `end` of a piece, counted from its own beginning."""
    if isinstance(piece, Interval):
        return dataset.examples(piece.split, piece.start + begin, piece.start + end)
    assert isinstance(dataset, CutByImage)
    return dataset.examples_at(piece.split, piece.rows[begin:end].tolist())


def list_bad_images(dataset: Dataset, split: str) -> list[BadImage]:
    """Those images of what a split expression chooses that opening the dataset already found to be unusable."""
    found: list[BadImage] = []
    for piece in select_rows(dataset, split):
        if isinstance(piece, Interval):
            found.extend(dataset.known_bad(piece.split, piece.start, piece.stop))
            continue
        for row in piece.rows.tolist():
            found.extend(dataset.known_bad(piece.split, row, row + 1))
    return found


def count_labels(dataset: Dataset, spec: DatasetSpec) -> dict[Role, np.ndarray] | None:
    """How many rows of each class the roles have, `(c,)` each; None where labels are not known without the images."""
    if not isinstance(dataset, Labelled):
        return None
    counts: dict[Role, np.ndarray] = {}
    for role, split in spec.roles.items():
        labels = [dataset.labels(piece.split)[piece.rows] for piece in select_rows(dataset, split)]
        counts[role] = np.bincount(np.concatenate(labels), minlength=len(dataset.class_names))
    return counts


def require_good(items: Iterable[Example | BadImage]) -> Iterator[Example]:
    """The rows, where every one of them is needed.

    Raises:
      DatasetError: the reason of the first bad image.
    """
    for item in items:
        if isinstance(item, BadImage):
            raise DatasetError(item.reason)
        yield item


def count_rows(dataset: Dataset, split: str) -> int:
    """How many images a split expression chooses."""
    return sum(len(piece.rows) for piece in select_rows(dataset, split))


def _parse(split: str) -> list[tuple[str, str | None, str | None]]:
    matches = [_SPLIT.fullmatch(part.strip()) for part in split.split("+")]
    if not all(matches):
        raise SpecError(f"a split is NAME, NAME[10:20], NAME[:8%] or a sum of them with +; got {split!r}")
    slices = [(m["name"], m["start"], m["stop"]) for m in matches if m]
    if any(start and stop and start.endswith("%") != stop.endswith("%") for _, start, stop in slices):
        raise SpecError(f"the bounds of a slice are both rows or both percent; got {split!r}")
    return slices


def _row(bound: str, count: int, split: str) -> int:
    is_percent = bound.endswith("%")
    row = round(float(bound[:-1]) * count / 100) if is_percent else int(bound)
    if abs(row) > count or (is_percent and abs(float(bound[:-1])) > 100):
        raise DatasetError(f"split {split!r} reaches {bound}, but there are {count} rows")
    return row + count if row < 0 else row


def _percent(bound: str, split: str) -> Decimal:
    """A bound in percent from the beginning, 0 to 100."""
    percent = Decimal(bound[:-1])
    if abs(percent) > 100:
        raise DatasetError(f"split {split!r} reaches {bound}; expected at most 100%")
    return percent + 100 if percent < 0 else abs(percent)  # of -0


def _plain(percent: Decimal) -> str:
    """The number without an exponent and without zeros at its end."""
    text = format(percent, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
