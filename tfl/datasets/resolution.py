"""Resolving a DatasetSpec: words become name, version and absolute rows."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np

from tfl.datasets.division_report import report_division
from tfl.datasets.source import Dataset
from tfl.datasets.splits import HashRange, Interval, format_percent, select_rows
from tfl.errors import DatasetError
from tfl.specs import ROLES, DatasetSpec
from tfl.text import to_printable


def resolve_spec(spec: DatasetSpec, dataset: Dataset) -> DatasetSpec:
    """Return the spec with the dataset's name and version, and with every split in absolute rows.

    Percent slices by hash (see `select_rows`) stay in percent, in one spelling; so do the parts of a dataset without
    splits.

    Raises:
      DatasetError: a split does not exist, selects no image, or shares images with another role; or
        there are fewer than two classes, or two of one name.
    """
    _require_classes(dataset)
    typed = spec
    if dataset.division is not None:
        spec = dataset.division.use_parts(spec)
    selected = {role: select_rows(dataset, split) for role, split in spec.roles.items()}
    pieces = [(role, piece) for role, of_role in selected.items() for piece in of_role]
    for (role, piece), (other_role, other) in combinations(pieces, 2):
        if overlap := _describe_overlap(piece, other):
            raise DatasetError(
                f"{role}_split {spec.roles[role]!r} and {other_role}_split {spec.roles[other_role]!r} share images: "
                f"{overlap} of {piece.split!r}; choose splits that do not overlap"
            )
    splits = {role: "+".join(map(str, selected.get(role, []))) for role in ROLES}
    resolved = replace(
        spec,
        dataset=dataset.name,
        version=dataset.version,
        train_split=splits["train"],
        val_split=splits["val"],
        test_split=splits["test"],
        val_fraction=DatasetSpec.val_fraction,  # the splits say it now
        test_fraction=DatasetSpec.test_fraction,
    )
    report_division(dataset, typed, resolved)
    return resolved


def _require_classes(dataset: Dataset) -> None:
    if len(dataset.class_names) < 2:
        only = "one class, " + repr(to_printable(dataset.class_names[0])) if dataset.class_names else "no labels"
        raise DatasetError(f"{dataset.name} has {only}; at least two are needed")
    counts = Counter(dataset.class_names)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        shown = ", ".join(repr(to_printable(name)) for name in repeated[:10])
        raise DatasetError(f"{dataset.name} has several classes of the name {shown}; rename them")


def _describe_overlap(first: Interval | HashRange, second: Interval | HashRange) -> str:
    """Return what two pieces have in common, as text; empty if it is nothing.

    For two hash ranges the percentages alone count: an image may be added between them.
    """
    if first.split != second.split:
        return ""
    if isinstance(first, HashRange) and isinstance(second, HashRange):
        low, high = max(first.start, second.start), min(first.stop, second.stop)
        return f"{format_percent(low)} % to {format_percent(high)} %" if low < high else ""
    if isinstance(first, Interval) and isinstance(second, Interval):
        start, stop = max(first.start, second.start), min(first.stop, second.stop)
        return f"rows {start} to {stop}" if start < stop else ""
    common = np.intersect1d(np.asarray(first.rows), np.asarray(second.rows))
    return f"{len(common)} rows, the first of them {common[0]}," if len(common) else ""
