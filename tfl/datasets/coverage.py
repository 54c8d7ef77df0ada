"""Whether the rows of each role have the classes that a head can be trained and tested on."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfl.specs import ROLES, Role
from tfl.text import to_printable

MAX_NAMED = 10  # classes in one message


def find_lost_classes(counts: Mapping[Role, np.ndarray], class_names: Sequence[str]) -> list[str]:
    """Return what makes a head's numbers meaningless, a sentence each; empty if nothing does.

    That is a class with val or test rows and without training rows, all of whose rows are misclassified; and training
    or test rows that are all of one class.

    Args:
      counts: rows of each class, `(c,)`, of the roles that there are.
    """
    found = []
    for role in ROLES:
        present = np.flatnonzero(counts[role]) if role in counts else np.zeros(0, int)
        if role != "val" and len(present) == 1:
            name = to_printable(class_names[present[0]])
            found.append(f"all {role} rows are of one class: {name} ({_rows(counts[role].sum())})")
        if role != "train" and "train" in counts and (counts["train"][present] == 0).any():
            missing = present[counts["train"][present] == 0]
            found.append(
                f"{role} has rows of classes without a training row, which no head gets right: "
                f"{listed_classes(missing, counts[role], class_names)}"
            )
    return found


def listed_classes(chosen: Sequence[int] | np.ndarray, counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Return classes with their numbers of rows, `cat (3 rows), dog (1 row)`; of many the first."""
    named = [f"{to_printable(class_names[label])} ({_rows(counts[label])})" for label in chosen[:MAX_NAMED]]
    more = [f"and {len(chosen) - MAX_NAMED} more classes"] if len(chosen) > MAX_NAMED else []
    return ", ".join([*named, *more])


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
