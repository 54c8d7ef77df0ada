"""What is said of a dataset that tfl has divided: its classes, the images of each part, and the flags."""

import logging

import numpy as np

from tfl.datasets.coverage import format_classes
from tfl.datasets.division import ALL, DIVIDE_AGAIN
from tfl.datasets.rows import count_labels, count_rows
from tfl.datasets.source import Dataset
from tfl.datasets.splits import split_names
from tfl.specs import DatasetSpec
from tfl.text import join_first, to_printable

logger = logging.getLogger(__name__)


def report_division(dataset: Dataset, spec: DatasetSpec, resolved: DatasetSpec) -> None:
    """Log how a dataset without splits was divided; warn of classes that cannot be measured.

    Args:
      spec: as typed. One that is resolved already says nothing new.
      resolved: the same, in shares of all images.
    """
    if dataset.division is None or spec.is_resolved:
        return
    counts = {role: count_rows(dataset, split) for role, split in resolved.roles.items()}
    logger.info(
        "%s has no splits, so the images of its %d classes (%s%s) were divided: %s (%s)",
        dataset.name,
        len(dataset.class_names),
        join_first([to_printable(name) for name in dataset.class_names]),
        _describe_order(dataset),
        ", ".join(f"{count:,} {role}" for role, count in counts.items()),
        _describe_flags(spec),
    )
    _warn_of_unmeasured(dataset, resolved)


def _describe_flags(spec: DatasetSpec) -> str:
    seed = f"--split-seed {spec.split_seed}"
    if split_names(spec) == [ALL]:
        return " ".join([*(f"--{role}-split '{split}'" for role, split in spec.roles.items()), seed])
    return f"--val-fraction {spec.val_fraction:g} --test-fraction {spec.test_fraction:g} {seed}"


def _describe_order(dataset: Dataset) -> str:
    """Return a remark on class names that are numbers, where sorting them as text gives another order."""
    names = dataset.class_names
    if not all(name.isdecimal() for name in names):
        return ""
    is_by_value = sorted(names, key=int) == list(names)
    return "" if is_by_value else "; sorted as text, and a label is the place in this order"


def _warn_of_unmeasured(dataset: Dataset, resolved: DatasetSpec) -> None:
    """Warn of classes that have no test image, where others have."""
    counts = count_labels(dataset, resolved) or {}
    if "test" not in counts:
        return
    num_rows = sum(counts.values(), np.zeros_like(counts["test"]))  # (c,)
    missing = np.flatnonzero((counts["test"] == 0) & (num_rows > 0))
    if len(missing):
        logger.warning(
            "no test image of %s: how well they are told apart will not be known; give %s",
            format_classes(missing, num_rows, dataset.class_names),
            DIVIDE_AGAIN,
        )
