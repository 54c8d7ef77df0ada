"""Coverage: every class that is tested has training rows."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from tfl.errors import DatasetError, TflError
from tfl.specs import ROLES, Role
from tfl.text import join_first, to_printable

logger = logging.getLogger(__name__)


def require_coverage(
    counts: Mapping[Role, np.ndarray],
    class_names: Sequence[str],
    *,
    title: str,
    advice: str,
    is_allowed: bool,
    error: type[TflError] = DatasetError,
) -> None:
    """Refuse rows that lose classes, or only warn if that is allowed.

    Args:
      counts: rows of each class, `(c,)`, of each role.
      title: what loses classes, the first line of the message.
      advice: what to do, the last line of the error.
      is_allowed: whether to warn instead (`--allow-missing-classes`).
      error: the kind of error to raise.

    Raises:
      error: see `find_lost_classes`.
    """
    lost = find_lost_classes(counts, class_names)
    if not lost:
        return
    lines = [title, *(f"  {line}" for line in lost)]
    if not is_allowed:
        raise error(*lines, advice)
    logger.warning("%s", "\n".join(lines))


def find_lost_classes(counts: Mapping[Role, np.ndarray], class_names: Sequence[str]) -> list[str]:
    """Return what makes a head's numbers meaningless, one sentence each; empty if nothing does.

    Val or test rows of a class without training rows are all misclassified. Training or test rows
    that are all of one class say nothing.

    Args:
      counts: rows of each class, `(c,)`, of each role.
    """
    lost = []
    for role in ROLES:
        if role not in counts:
            continue
        present = np.flatnonzero(counts[role])
        if role != "val" and len(present) == 1:
            name = to_printable(class_names[present[0]])
            lost.append(f"all {role} rows are of one class: {name} ({_count_rows(counts[role].sum())})")
        if role == "train" or "train" not in counts:
            continue
        untrained = present[counts["train"][present] == 0]
        if len(untrained):
            listed = format_classes(untrained, counts[role], class_names)
            lost.append(f"{role} has rows of classes without a training row, which no head gets right: {listed}")
    return lost


def format_classes(labels: Sequence[int] | np.ndarray, counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Return classes with their numbers of rows, `cat (3 rows), dog (1 row)`; the first of them if they are many."""
    named = [f"{to_printable(class_names[label])} ({_count_rows(counts[label])})" for label in labels]
    return join_first(named, "classes")


def _count_rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
