"""Split expressions, `train[:8%]`, as rows of a dataset."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import NamedTuple

from tfl.datasets.source import Dataset, Example
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
      DatasetError: a split is not there, selects no image, or shares images with another role's.
    """
    intervals = {role: select(dataset, split) for role, split in spec.roles.items()}
    for (role, ours), (other, theirs) in combinations(intervals.items(), 2):
        for a, b in product(ours, theirs):
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


_SPLIT = re.compile(r"(?P<name>[\w.-]+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def split_names(spec: DatasetSpec) -> list[str]:
    """The names of the splits that a spec's roles are cut from, without their slices."""
    return sorted({name for split in spec.roles.values() for name, _, _ in _parse(split)})


def select(dataset: Dataset, split: str) -> list[Interval]:
    """The rows a split expression chooses: `train`, `train[:4000]`, `train[10%:-5%]`, and sums of them with `+`.

    Percentages are rounded to the nearest row and bounds are clipped, as `tfds.load` does.

    Raises:
      SpecError: the expression is not of that form.
      DatasetError: the dataset has no such split, or the expression chooses no image.
    """
    intervals = []
    for name, start, stop in _parse(split):
        if name not in dataset.num_rows:
            raise DatasetError(
                f"{dataset.name} has no split {name!r}; it has {', '.join(dataset.num_rows) or 'none'} "
                "(an empty string leaves a role out: --test-split '')"
            )
        count = dataset.num_rows[name]
        interval = Interval(name, _row(start, count, 0), _row(stop, count, count))
        if interval.start >= interval.stop:
            raise DatasetError(f"split {split!r} chooses no image: {name!r} has {count} rows")
        intervals.append(interval)
    return intervals


def rows(dataset: Dataset, split: str, start: int, stop: int) -> Iterator[Example]:
    """Rows `start` to `stop` of what a split expression chooses, counted from its own beginning."""
    offset = 0
    for name, first, last in select(dataset, split):
        begin, end = max(start - offset, 0), min(stop - offset, last - first)
        if begin < end:
            yield from dataset.examples(name, first + begin, first + end)
        offset += last - first


def count_rows(dataset: Dataset, split: str) -> int:
    """How many images a split expression chooses."""
    return sum(interval.stop - interval.start for interval in select(dataset, split))


def _parse(split: str) -> list[tuple[str, str | None, str | None]]:
    matches = [_SPLIT.fullmatch(part.strip()) for part in split.split("+")]
    if not all(matches):
        raise SpecError(f"a split is NAME, NAME[10:20], NAME[:8%] or a sum of them with +; got {split!r}")
    return [(m["name"], m["start"], m["stop"]) for m in matches if m]


def _row(bound: str | None, count: int, default: int) -> int:
    if bound is None:
        return default
    row = round(int(bound[:-1]) * count / 100) if bound.endswith("%") else int(bound)
    return min(max(row + count if row < 0 else row, 0), count)
