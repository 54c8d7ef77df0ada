"""The classes of a file of features: from labels, from class names, or from both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfl.errors import DatasetError
from tfl.text import to_printable


@dataclass
class Classes:
    """What the rows so far say of the classes.

    Attributes:
      where: the file, for messages.
      declared: the class names in the labels' order, where the file lists them.
    """

    where: str
    declared: tuple[str, ...] = ()
    _labels: list[np.ndarray] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._has_labels = True
        self._names = dict(enumerate(self.declared))
        self._numbers = {name: number for number, name in self._names.items()}

    def add(self, labels: np.ndarray | None, names: list[str] | None, start: int) -> None:
        """Add rows.

        Args:
          labels: `(m,)`; None if the file has none.
          names: of the classes, m; likewise.
          start: the first row's number.

        Raises:
          DatasetError: a label is negative, a name is empty, or the two contradict each other or the
            declared names; the message names the row.
        """
        if labels is not None and labels.min(initial=0) < 0:
            row = int(np.argmax(labels < 0))
            raise DatasetError(
                f"{self.where} has the label {labels[row]} in row {start + row}; expected 0 or more (leave rows "
                "without a label out of the file)"
            )
        if names is not None and "" in names:
            raise DatasetError(f"{self.where} has an empty class name in row {start + names.index('')}")
        if names is not None and labels is not None:
            self._add_pairs(labels, names, start)
        if labels is None:
            assert names is not None
            labels = self._number(names, start)
        elif self.declared and labels.max(initial=0) >= len(self.declared):
            row = int(np.argmax(labels))
            raise self._contradict(start + row, f"label {labels[row]}", f"labels 0 to {len(self.declared) - 1}")
        self._labels.append(labels)

    def _add_pairs(self, labels: np.ndarray, names: list[str], start: int) -> None:
        numbers = labels.tolist()
        for number, name in dict.fromkeys(zip(numbers, names, strict=True)):
            known_name = self._names.setdefault(number, name)
            known_number = self._numbers.setdefault(name, number)
            if (known_name, known_number) != (name, number):
                row = start + list(zip(numbers, names, strict=True)).index((number, name))
                known = f"{known_number} for {name!r}" if known_name == name else f"{known_name!r} for label {number}"
                raise self._contradict(
                    row, f"label {number} and class name {to_printable(name)!r}", to_printable(known)
                )

    def _number(self, names: list[str], start: int) -> np.ndarray:
        """Return a number for each name: in the order in which they first occur, if none are declared."""
        self._has_labels = bool(self.declared)
        for row, name in enumerate(names):
            if name not in self._numbers:
                if self.declared:
                    raise self._contradict(start + row, f"class name {to_printable(name)!r}", "another class name")
                self._names[len(self._numbers)] = name
                self._numbers[name] = len(self._numbers)
        return np.asarray([self._numbers[name] for name in names], np.int64)

    def _contradict(self, row: int, received: str, expected: str) -> DatasetError:
        declared = f" (its class_names are {', '.join(map(to_printable, self.declared[:10]))})" if self.declared else ""
        return DatasetError(
            f"{self.where} has {received} in row {row}, where other rows or its class_names say {expected}{declared}; "
            "correct the file"
        )

    def finish(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the class names in the labels' order, and the label of every row, `(n,)`.

        Without declared names, the classes are those that occur: in the order of their labels, or of
        their names if there are no labels.
        """
        labels = np.concatenate(self._labels) if self._labels else np.zeros(0, np.int64)
        if self.declared:
            return self.declared, labels
        found = np.unique(labels).tolist()
        if not self._has_labels:
            found.sort(key=self._names.__getitem__)
        names = tuple(self._names.get(number, str(number)) for number in found)
        place_of = {number: place for place, number in enumerate(found)}
        values, inverse = np.unique(labels, return_inverse=True)
        return names, np.asarray([place_of[value] for value in values.tolist()], np.int64)[inverse]


def read_declared(facts: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the class names that a file lists; nothing if it lists none.

    Raises:
      DatasetError: they are no list of different texts.
    """
    names = facts.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"the class_names of {where} are {str(names)[:80]}; expected a list of texts")
    if len(set(names)) != len(names):
        raise DatasetError(f"the class_names of {where} are not all different: {', '.join(names[:10])}")
    return tuple(names)
