"""Split expressions, `train[:8%]`, as rows of a dataset."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

from tfl.datasets.source import BadImage, Dataset, Example
from tfl.errors import DatasetError, SpecError
from tfl.spec import ROLES, DatasetSpec


class Interval(NamedTuple):
    """Rows `start` to `stop` (not included) of one split."""

    split: str
    start: int
    stop: int


def resolve(spec: DatasetSpec, dataset: Dataset) -> DatasetSpec:
    """The spec with the dataset's name and version, and with every split in absolute rows.

    Raises:
      DatasetError: a split is not there, selects no image, or shares images with another role's; or there are fewer
        than two classes, or two of one name.
    """
    if len(dataset.class_names) < 2:
        raise DatasetError(f"{dataset.name} has one class, {dataset.class_names[0]!r}; at least two are needed")
    if repeated := sorted(name for name, count in Counter(dataset.class_names).items() if count > 1):
        raise DatasetError(
            f"{dataset.name} has several classes of the name {', '.join(map(repr, repeated))}; rename them"
        )
    intervals = {role: select(dataset, split) for role, split in spec.roles.items()}
    placed = [(role, interval) for role, chosen in intervals.items() for interval in chosen]
    for (role, a), (other, b) in combinations(placed, 2):
        first, last = max(a.start, b.start), min(a.stop, b.stop)
        if a.split == b.split and first < last:
            raise DatasetError(
                f"{role}_split {spec.roles[role]!r} and {other}_split {spec.roles[other]!r} share images: rows "
                f"{first} to {last} of {a.split!r}; choose splits that do not overlap"
            )
    splits = {role: "+".join(f"{i.split}[{i.start}:{i.stop}]" for i in intervals.get(role, [])) for role in ROLES}
    return replace(
        spec,
        dataset=dataset.name,
        version=dataset.version,
        train_split=splits["train"],
        val_split=splits["val"],
        test_split=splits["test"],
    )


_BOUND = r"-?\d[\d_]*|-?\d+(?:\.\d+)?%"
_SPLIT = re.compile(rf"(?P<name>[\w.-]+)(\[(?P<start>{_BOUND})?:(?P<stop>{_BOUND})?\])?")


def split_names(spec: DatasetSpec) -> list[str]:
    """The names of the splits that a spec's roles are cut from, without their slices, in the order of the roles."""
    return list(dict.fromkeys(name for split in spec.roles.values() for name, _, _ in _parse(split)))


def select(dataset: Dataset, split: str) -> list[Interval]:
    """The rows a split expression chooses: `train`, `train[:4000]`, `train[10%:-5%]`, and sums of them with `+`.

    Rows are chosen as by `tfds.load`: percentages are rounded to the nearest row, negative bounds count from the end.

    Raises:
      SpecError: the expression is not of that form.
      DatasetError: the dataset has no such split, a bound is beyond its rows, or no image is chosen.
    """
    intervals = []
    for name, start, stop in _parse(split):
        if name not in dataset.num_rows:
            raise DatasetError(
                f"{dataset.name} has no split {name!r}; it has {', '.join(dataset.num_rows) or 'none'} "
                "(an empty string leaves a role out: --test-split '')"
            )
        count = dataset.num_rows[name]
        interval = Interval(name, _row(start or "0", count, split), _row(stop or str(count), count, split))
        if interval.start >= interval.stop:
            raise DatasetError(f"split {split!r} chooses no image: {name!r} has {count} rows")
        intervals.append(interval)
    return intervals


def rows(dataset: Dataset, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
    """Rows `start` to `stop` of what a split expression chooses, counted from its own beginning."""
    offset = 0
    for name, first, last in select(dataset, split):
        begin, end = max(start - offset, 0), min(stop - offset, last - first)
        if begin < end:
            yield from dataset.examples(name, first + begin, first + end)
        offset += last - first


def known_bad(dataset: Dataset, split: str) -> list[BadImage]:
    """Those images of what a split expression chooses that opening the dataset already found to be unusable."""
    return [bad for name, first, last in select(dataset, split) for bad in dataset.known_bad(name, first, last)]


def usable(items: Iterable[Example | BadImage]) -> Iterator[Example]:
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
    return sum(interval.stop - interval.start for interval in select(dataset, split))


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
